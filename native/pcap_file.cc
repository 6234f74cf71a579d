// Capture files through libpcap's own savefile functions: pcap and pcapng in, nanosecond pcap out. Called by
// lib/io/pcap-file.ts. A handle owns its file; close() releases it at once, the finalizer does when JS forgets to.

#include "batch.h"

#include <pcap/pcap.h>

#include <cerrno>

namespace {

struct Reader : Tagged {
  static constexpr uint32_t KIND = 0x77726472;
  napi_env env;
  pcap_t* pcap;
  std::string path;
  BoundBatch batch;
  double* seconds = nullptr;
  int32_t* nanoseconds = nullptr;
  size_t timeRows = 0;
  napi_ref timeReferences[2] = {};
  // A frame that libpcap gave and that did not fit any more; libpcap keeps it until it is asked for the next.
  bool pending = false;
  pcap_pkthdr* header = nullptr;
  const u_char* frame = nullptr;
  // The status that ended the file, kept until the frames before it are delivered.
  int ended = 0;

  Reader(napi_env env, pcap_t* pcap, std::string path) : Tagged{KIND}, env(env), pcap(pcap), path(std::move(path)) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { close(); }

  void releaseTimes() {
    for (napi_ref& reference : timeReferences) {
      if (reference != nullptr) napi_delete_reference(env, reference);
      reference = nullptr;
    }
    timeRows = 0;
  }

  void close() {
    if (pcap == nullptr) return;
    batch.release(env);
    releaseTimes();
    pcap_close(pcap);
    pcap = nullptr;
  }
};

struct Writer : Tagged {
  static constexpr uint32_t KIND = 0x77777472;
  pcap_t* pcap;
  pcap_dumper_t* dumper;
  std::string path;

  Writer(pcap_t* pcap, pcap_dumper_t* dumper, std::string path)
      : Tagged{KIND}, pcap(pcap), dumper(dumper), path(std::move(path)) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { close(); }

  void close() {
    if (pcap == nullptr) return;
    pcap_dump_close(dumper);
    pcap_close(pcap);
    pcap = nullptr;
  }
};

FILE* openFile(napi_env env, const std::string& path, const char* mode) {
  FILE* file = fopen(path.c_str(), mode);
  if (file == nullptr) {
    const int error = errno;
    fail(env, errnoCode(error), "The capture file \"%s\" cannot be opened: %s.", path.c_str(), errnoText(error));
  }
  return file;
}

/** readerOpen(path) → handle */
napi_value readerOpen(napi_env env, napi_callback_info info) {
  napi_value argument;
  std::string path;
  if (!takeArguments(env, info, 1, &argument) || !takeText(env, argument, &path)) return nullptr;
  FILE* file = openFile(env, path, "rbe");
  if (file == nullptr) return nullptr;
  char text[PCAP_ERRBUF_SIZE] = "";
  pcap_t* pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, text);
  if (pcap == nullptr) {
    fclose(file);
    return fail(env, CODE_CAPTURE, "\"%s\" is not a pcap or pcapng file that libpcap can read: %s.", path.c_str(), text);
  }
  return giveHandle(env, new Reader(env, pcap, std::move(path)));
}

/** readerInfo(handle) → { linkType, linkTypeName, snaplen } */
napi_value readerInfo(napi_env env, napi_callback_info info) {
  napi_value argument, result, name;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  Reader* reader = takeHandle<Reader>(env, argument);
  if (reader == nullptr || reader->pcap == nullptr) return nullptr;
  const int linkType = pcap_datalink(reader->pcap);
  const char* text = pcap_datalink_val_to_name(linkType);
  napi_create_object(env, &result);
  setProperty(env, result, "linkType", giveInt(env, linkType));
  napi_create_string_utf8(env, text != nullptr ? text : "unknown", NAPI_AUTO_LENGTH, &name);
  setProperty(env, result, "linkTypeName", name);
  setProperty(env, result, "snaplen", giveInt(env, pcap_snapshot(reader->pcap)));
  return result;
}

/** readerBind(handle, memory, offset, length, flags, seconds: Float64Array, nanoseconds: Int32Array) */
napi_value readerBind(napi_env env, napi_callback_info info) {
  napi_value arguments[7];
  double* seconds;
  int32_t* nanoseconds;
  size_t rows[2];
  if (!takeArguments(env, info, 7, arguments)) return nullptr;
  Reader* reader = takeHandle<Reader>(env, arguments[0]);
  if (reader == nullptr || reader->pcap == nullptr ||
      !takeArray(env, arguments[5], napi_float64_array, &seconds, &rows[0]) ||
      !takeArray(env, arguments[6], napi_int32_array, &nanoseconds, &rows[1]) ||
      !reader->batch.bind(env, arguments + 1)) {
    return nullptr;
  }
  reader->releaseTimes();
  for (int i = 0; i < 2; i++) napi_create_reference(env, arguments[5 + i], 1, &reader->timeReferences[i]);
  reader->seconds = seconds;
  reader->nanoseconds = nanoseconds;
  reader->timeRows = std::min(rows[0], rows[1]);
  return nullptr;
}

/** readerRead(handle) → count, 0 at the end of the file. A damaged file is an Error after the frames before the damage. */
napi_value readerRead(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  Reader* reader = takeHandle<Reader>(env, argument);
  if (reader == nullptr) return nullptr;
  BoundBatch& batch = reader->batch;
  batch.begin();
  if (reader->pcap == nullptr) return giveInt(env, 0);
  while (!batch.full() && batch.count < reader->timeRows && reader->ended == 0) {
    if (!reader->pending) {
      const int status = pcap_next_ex(reader->pcap, &reader->header, &reader->frame);
      if (status < 0) {
        reader->ended = status;
        break;
      }
      reader->pending = true;
    }
    const pcap_pkthdr& header = *reader->header;
    // A frame larger than the whole memory is given in part, marked as truncated.
    if (batch.count > 0 && batch.room(header.caplen) == 0) break;
    reader->seconds[batch.count] = static_cast<double>(header.ts.tv_sec);
    reader->nanoseconds[batch.count] = static_cast<int32_t>(header.ts.tv_usec);
    batch.append(reader->frame, header.caplen, header.len);
    reader->pending = false;
  }
  if (batch.count == 0 && reader->ended == PCAP_ERROR) {
    return fail(env, CODE_CAPTURE, "The capture file \"%s\" is damaged from here on: %s.", reader->path.c_str(), pcap_geterr(reader->pcap));
  }
  return giveInt(env, static_cast<int64_t>(batch.count));
}

napi_value readerClose(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  if (Reader* reader = takeHandle<Reader>(env, argument)) reader->close();
  return nullptr;
}

/** writerOpen(path, linkType, snaplen) → handle. An existing file is replaced. */
napi_value writerOpen(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::string path;
  int64_t linkType, snaplen;
  if (!takeArguments(env, info, 3, arguments) || !takeText(env, arguments[0], &path) ||
      !takeInt(env, arguments[1], 0, 65535, &linkType) || !takeInt(env, arguments[2], 64, 262144, &snaplen)) {
    return nullptr;
  }
  pcap_t* pcap = pcap_open_dead_with_tstamp_precision(static_cast<int>(linkType), static_cast<int>(snaplen), PCAP_TSTAMP_PRECISION_NANO);
  if (pcap == nullptr) return fail(env, "ENOMEM", "No capture file can be made: the process is out of memory.");
  FILE* file = openFile(env, path, "wbe");
  pcap_dumper_t* dumper = file != nullptr ? pcap_dump_fopen(pcap, file) : nullptr;
  if (dumper == nullptr) {
    if (file != nullptr) {
      fail(env, CODE_CAPTURE, "The capture file \"%s\" cannot be begun: %s.", path.c_str(), pcap_geterr(pcap));
      fclose(file);
    }
    pcap_close(pcap);
    return nullptr;
  }
  return giveHandle(env, new Writer(pcap, dumper, std::move(path)));
}

napi_value failWrite(napi_env env, const Writer& writer, int error) {
  return fail(env, error != 0 ? errnoCode(error) : "EIO", "The capture file \"%s\" cannot be written: %s.",
              writer.path.c_str(), error != 0 ? errnoText(error) : "an earlier write failed");
}

/** writerWrite(handle, bytes, offset, length, from, to, seconds, nanoseconds): frames with one time stamp. */
napi_value writerWrite(napi_env env, napi_callback_info info) {
  napi_value arguments[8];
  FrameRows rows;
  int64_t seconds, nanoseconds;
  if (!takeArguments(env, info, 8, arguments)) return nullptr;
  Writer* writer = takeHandle<Writer>(env, arguments[0]);
  if (writer == nullptr || !rows.take(env, arguments + 1) || !takeInt(env, arguments[6], 0, INT32_MAX, &seconds) ||
      !takeInt(env, arguments[7], 0, 999999999, &nanoseconds) || writer->pcap == nullptr) {
    return nullptr;
  }
  pcap_pkthdr header = {};
  header.ts.tv_sec = seconds;
  header.ts.tv_usec = nanoseconds;
  errno = 0;
  for (int64_t row = rows.from; row < rows.to; row++) {
    if (!rows.inside(row)) return fail(env, CODE_ARGUMENT, "A row lies outside the bytes.");
    header.caplen = header.len = static_cast<bpf_u_int32>(rows.length[row]);
    pcap_dump(reinterpret_cast<u_char*>(writer->dumper), &header, rows.bytes + rows.offset[row]);
  }
  if (ferror(pcap_dump_file(writer->dumper))) return failWrite(env, *writer, errno);
  return nullptr;
}

napi_value flush(napi_env env, Writer* writer) {
  errno = 0;
  if (pcap_dump_flush(writer->dumper) != 0) return failWrite(env, *writer, errno);
  return nullptr;
}

napi_value writerFlush(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  Writer* writer = takeHandle<Writer>(env, argument);
  return writer != nullptr && writer->pcap != nullptr ? flush(env, writer) : nullptr;
}

/** Flush and close. An Error when the last bytes could not be written; the file is closed all the same. */
napi_value writerClose(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  Writer* writer = takeHandle<Writer>(env, argument);
  if (writer == nullptr || writer->pcap == nullptr) return nullptr;
  flush(env, writer);
  writer->close();
  return nullptr;
}

}  // namespace

void registerPcapFile(napi_env env, napi_value exports) {
  setFunction(env, exports, "readerOpen", readerOpen);
  setFunction(env, exports, "readerInfo", readerInfo);
  setFunction(env, exports, "readerBind", readerBind);
  setFunction(env, exports, "readerRead", readerRead);
  setFunction(env, exports, "readerClose", readerClose);
  setFunction(env, exports, "writerOpen", writerOpen);
  setFunction(env, exports, "writerWrite", writerWrite);
  setFunction(env, exports, "writerFlush", writerFlush);
  setFunction(env, exports, "writerClose", writerClose);
}
