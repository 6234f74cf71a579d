// What the tests use of npm ip-packet, an IPv4 codec that shares nothing with ours. It comes without types.
declare module "ip-packet" {
  interface State {
    start: number;
    end: number;
    buffer: Buffer;
  }
  interface Packet {
    version: number;
    identification: number;
    flags: number;
    fragmentOffset: number;
    ttl: number;
    protocol: number;
    checksum: number;
    sourceIp: string;
    destinationIp: string;
    data: Buffer;
  }
  const ipPacket: {
    decode(state: State): Packet /** Writes the header checksum into the packet. */;
    checksum(packet: Buffer): void;
  };
  export default ipPacket;
}
