// How a running router answers `waymark show`: HTTP with JSON on a unix socket that only its owner may open. GET
// /sessions asks for "sessions". The answers are the caller's; this file keeps the door: permissions, a socket file left by a dead
// router, limits on what a client may send, and errors as JSON. Nothing a client does can stop the router.

import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { dirname } from "node:path";
import type { Duplex } from "node:stream";
import { OperatorError } from "./operator-error.ts";

const HEADER_BYTES_MAX = 4096;
const REQUEST_TIMEOUT_MS = 5_000;
const CLIENTS_MAX = 32;
const ANSWER_TIMEOUT_MS = 10_000;

/** The socket cannot be opened, or does not answer; the message says why and what to do. */
export class AdminSocketError extends OperatorError {
  override name = "AdminSocketError";
}

type Pieces = Iterable<string> | AsyncIterable<string>;

/**
 * Returns what is asked for, or undefined where there is no such thing; now or as a promise. It runs on the router's
 * own event loop: be quick, or return the text in pieces.
 */
export type Answer = (
  resource: string,
  query: URLSearchParams,
) => object | Pieces | undefined | Promise<object | Pieces | undefined>;

export class AdminSocket {
  readonly #path: string;
  readonly #answer: Answer;
  readonly #server: Server;
  /** Of all clients, also those that the HTTP server no longer knows: they talk another protocol, or were refused. */
  readonly #streams = new Set<Socket>();

  /** `upgrade`: who takes a connection that asks for another protocol than HTTP, of this name. */
  constructor(
    path: string,
    answer: Answer,
    upgrade?: { readonly protocol: string; take(stream: Duplex, head: Uint8Array): void },
  ) {
    this.#path = path;
    this.#answer = answer;
    this.#server = createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: 1_000,
        keepAlive: false,
      },
      (message, response) => void this.#respond(message, response),
    );
    this.#server.maxConnections = CLIENTS_MAX;
    this.#server.on("connection", (stream) => {
      this.#streams.add(stream);
      stream.once("close", () => this.#streams.delete(stream));
    });
    if (upgrade !== undefined) {
      const { protocol } = upgrade;
      this.#server.on("upgrade", ({ headers }: IncomingMessage, stream: Duplex, head: Buffer) => {
        stream.on("error", () => {});
        if (headers.upgrade !== protocol) {
          stream.resume();
          refuse(stream, "not a protocol of this router");
          return;
        }
        stream.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
        upgrade.take(stream, head);
      });
    }
    this.#server.on("clientError", (_, socket) => {
      if (socket.writable) refuse(socket, "not a request this router reads");
      else socket.destroy();
    });
  }

  /** Begin to answer. Rejects with AdminSocketError where another router listens or the path cannot be used. */
  async listen(): Promise<void> {
    await clearStaleSocket(this.#path);
    // The file is made inside listen(), so the mask gives it mode 0600 from its first moment.
    const mask = process.umask(0o177);
    try {
      const listening = new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(this.#path, resolve);
      });
      process.umask(mask);
      await listening;
    } catch (error) {
      throw new AdminSocketError(explainListenFailure(this.#path, error as NodeJS.ErrnoException), { cause: error });
    } finally {
      process.umask(mask);
    }
    this.#server.removeAllListeners("error");
    // A failing accept (too many open files) costs that client its answer and nothing else.
    this.#server.on("error", () => {});
  }

  /** Stop answering, end every client, remove the file. Safe to call twice. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      for (const stream of this.#streams) stream.destroy();
    });
  }

  /** The same at once: the file is gone, and nobody is waited for. A connection of another protocol goes on. */
  release(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #respond(message: IncomingMessage, response: ServerResponse): Promise<void> {
    message.resume();
    response.on("error", () => {});
    const [status, body] = await this.#answerTo(message);
    const type = { "content-type": "application/json", connection: "close" };
    if (typeof body === "string") {
      response.writeHead(status, { ...type, "content-length": Buffer.byteLength(body) });
      response.end(body);
    } else {
      response.writeHead(status, type);
      // Something that breaks in the middle of an answer costs that client the rest of it: it sees the end missing.
      await writePieces(body, response).catch(() => response.destroy());
    }
  }

  async #answerTo({ method, url = "" }: IncomingMessage): Promise<[status: number, body: string | Pieces]> {
    if (method !== "GET") return [405, failure("only GET is answered here")];
    const parsed = parseUrl(url);
    if (parsed === null) return [400, failure("not a path")];
    const resource = parsed.pathname.slice(1);
    try {
      const answer = await this.#answer(resource, parsed.searchParams);
      if (answer === undefined) return [404, failure(`this router has no ${resource} to show`)];
      return [200, isPieces(answer) ? answer : `${JSON.stringify(answer)}\n`];
    } catch (error) {
      if (error instanceof OperatorError) return [404, failure(error.message)];
      return [500, failure(`the router could not answer: ${(error as Error).message}`)];
    }
  }
}

function isPieces(answer: object): answer is Pieces {
  return Symbol.iterator in answer || Symbol.asyncIterator in answer;
}

/** Write a long answer piece by piece, the event loop's other work in between, and no faster than the client reads. */
async function writePieces(pieces: Pieces, response: ServerResponse): Promise<void> {
  for await (const piece of pieces) {
    if (response.destroyed) return;
    if (response.write(piece)) await new Promise((resolve) => setImmediate(resolve));
    else await drained(response);
  }
  response.end();
}

/** The client has read what was written, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
    if (response.destroyed) done();
  });
}

/** Ask the router that listens at `path` for `resource` ("sessions"). Rejects with AdminSocketError. */
export function askRouter(path: string, resource: string): Promise<object> {
  return new Promise((resolve, reject) => {
    const fail = (message: string) => reject(new AdminSocketError(message));
    const asking = request({ socketPath: path, path: `/${resource}`, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", () => fail(`the router at ${path} broke off its answer`));
      response.on("end", () => {
        const answer = parseObject(chunks);
        if (answer === null) fail(`what listens at ${path} does not answer as a waymark router does`);
        else if (response.statusCode === 200) resolve(answer);
        else fail(String((answer as { error?: unknown }).error ?? `the router answered ${response.statusCode}`));
      });
    });
    asking.setTimeout(ANSWER_TIMEOUT_MS, () => {
      fail(`the router at ${path} gave no answer within ${ANSWER_TIMEOUT_MS / 1000} seconds`);
      asking.destroy();
    });
    asking.on("error", (error: NodeJS.ErrnoException) => fail(explainAskFailure(path, error)));
    asking.end();
  });
}

/** Answer and close. Whether the client ends its side is not waited for. */
function refuse(stream: Duplex, error: string): void {
  const answer = `HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n${failure(error)}`;
  stream.end(answer, () => stream.destroy());
}

function failure(error: string): string {
  return `${JSON.stringify({ error })}\n`;
}

function parseUrl(url: string): URL | null {
  try {
    return new URL(url, "http://router");
  } catch {
    return null;
  }
}

function parseObject(chunks: Buffer[]): object | null {
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/** Remove a socket file that nobody listens at any more. Rejects where somebody does, or where it is no socket. */
async function clearStaleSocket(path: string): Promise<void> {
  if (!existsSync(dirname(path))) {
    throw new AdminSocketError(
      `the directory of ${path} does not exist: create it, or set control.socket to another path`,
    );
  }
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new AdminSocketError(`${path} is there and is not a socket: move it, or set control.socket to another path`);
  }
  if (await someoneListens(path)) {
    throw new AdminSocketError(`another router listens at ${path}: stop it, or set control.socket to another path`);
  }
  unlinkSync(path);
}

/** Only a refused connection proves that nobody is there. */
function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.on("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
  });
}

function explainListenFailure(path: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "EACCES":
    case "EPERM":
      return `no permission to listen at ${path}: run as root, or set control.socket to another path`;
    case "EADDRINUSE":
      return `another router listens at ${path}: stop it, or set control.socket to another path`;
    default:
      return `cannot listen at ${path}: ${error.message}`;
  }
}

/** Why no router answers at `path`. */
export function explainAskFailure(path: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return `no router listens at ${path}: is it running? (waymark run -c FILE; -c or --socket says where)`;
    case "EACCES":
    case "EPERM":
      return `no permission to ask the router at ${path}: ask as the user it runs as, usually root`;
    case "ECONNRESET":
      return `the router at ${path} broke off its answer`;
    default:
      return `cannot ask the router at ${path}: ${error.message}`;
  }
}
