// What every kind of live port is: a descriptor to send on, bound memory to receive into, totals and a watch. pcap_port.cc
// and afpacket_port.cc derive from it; port.cc has what JS calls, for both alike. All on the thread that opened the port.
#pragma once

#include "batch.h"

#include <sys/socket.h>

/** Frames handed to the kernel at once. */
constexpr int TX_CHUNK = 128;
constexpr int SEND_BYTES = 4 << 20;

struct Watch;

/** virtio_net_hdr of PACKET_VNET_HDR, host byte order. (The kernel's own header file is not C++.) */
struct VnetHeader {
  static constexpr uint8_t NEEDS_CSUM = 1;
  static constexpr uint8_t GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80;
  uint8_t flags, gsoType;
  uint16_t headerLength, gsoSize, csumStart, csumOffset;
};
static_assert(sizeof(VnetHeader) == 10, "layout of virtio_net_hdr");

class Port : public Tagged {
 public:
  static constexpr uint32_t KIND = 0x77706f72;
  /** Totals, in the order stats() gives them. */
  struct Totals {
    double rxFrames, rxBytes, txFrames, txBytes, kernelDrops, txFull, txErrors, superFrames, partialChecksums;
  };
  /** What the kernel is told of a frame to send. */
  enum class Fit { SEND, REFUSE, CUT };

  Totals total = {};
  BoundBatch batch;
  Watch* watch = nullptr;
  /** A socket that is a member of groups on the link (groups.cc); -1 = none. */
  int groups = -1;

  /** `withHeaders`: a virtio_net_hdr goes in front of every frame that is sent. */
  Port(napi_env env, bool withHeaders);
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  /** Derived destructors call close(), while they are still what they are. */
  virtual ~Port() = default;

  napi_env env() const { return env_; }

  /** The packet socket; -1 once the port is closed. */
  virtual int descriptor() const = 0;
  /** Fill the batch, which is bound and begun. False after a JS error was thrown. */
  virtual bool receive() = 0;
  /** New memory is bound. */
  virtual void bound() {}
  /** Bring total.kernelDrops up to date. */
  virtual void readKernelDrops() = 0;
  /** Whether and how row `row` can leave; the header is zero and may be filled. Rows lie inside the bytes. */
  virtual Fit describe(const FrameRows&, int64_t, VnetHeader*) { return Fit::SEND; }
  /** The socket reported this error to a sender instead of to receive(). */
  virtual void noticeError(int) {}

  /**
   * Send rows, in order; returns how many were sent, the rest are txFull or txErrors. *next is rows.to, or the row before
   * which it stopped because the row must be cut first; *refused then says whether the kernel would not take it whole.
   */
  int64_t send(const FrameRows& rows, int64_t* next, bool* refused);

  void close();

 protected:
  /** Close the descriptor. Called once. */
  virtual void release() = 0;

 private:
  int give(int chunk);

  const napi_env env_;
  const bool withHeaders_;
  mmsghdr messages_[TX_CHUNK] = {};
  iovec pieces_[TX_CHUNK][2] = {};
  VnetHeader headers_[TX_CHUNK] = {};
};
