import { readFileSync } from "node:fs";
import test from "ava";
import { lockDevices } from "../../lib/control/device-lock.ts";

test("The name of a device's lock is as long as a socket's can be, so that every version of Node takes the same", async (t) => {
  const device = `none${process.pid}`;
  const unlock = await lockDevices([device]);
  const names = readFileSync("/proc/net/unix", "latin1").split("\n");
  const [name] = names
    .filter((line) => line.includes(`waymark-device-${device}`))
    .map((line) => line.split(" ").at(-1)!);
  t.is(name.length, 108);
  t.regex(name, new RegExp(`^@waymark-device-${device}/+$`));
  unlock();
});

test("A device that is locked is refused, all or none are taken, and one that was given back is free", async (t) => {
  const [one, two] = [`one${process.pid}`, `two${process.pid}`];
  const unlock = await lockDevices([one]);
  await t.throwsAsync(lockDevices([two, one]), {
    message: `device ${one} is another running router's: stop that one first, or name another device`,
  });
  const unlockTwo = await lockDevices([two, two]);
  unlock();
  unlockTwo();
  (await lockDevices([one, two]))();
  await t.throwsAsync(lockDevices(["lo"]), { message: /loopback/ });
});
