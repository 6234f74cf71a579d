// Capabilities that a process gives up. They belong to threads, and a thread can change only its own (capabilities(7)),
// while V8, libuv and Node have made theirs long before: so every thread is sent a signal and gives them up in the
// handler. Node's thread that waits for the debugger blocks every signal that it can; the two that the C library keeps to
// itself (nptl(7)) nobody can block through it, so the one with which setuid reaches all threads serves here too, and is
// put back once all have answered. Used by lib/router.ts.

#include "values.h"

#include <dirent.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <set>

namespace {

constexpr int64_t CAPABILITY_MAX = 62;
/** The C library's own signal for all threads, SIGSETXID. */
constexpr int EVERY_THREAD = 33;
/** A thread that has not answered by then is reported. It may still: it was held up in the kernel, or had no processor. */
constexpr int WAITS_MAX = 200;
constexpr long WAIT_NS = 5'000'000;

/** What every thread keeps. Set before a signal is sent. */
std::atomic<uint64_t> kept;
std::atomic<int> answered, failed;

/** In a signal handler: system calls only. */
void giveUp(int) {
  const uint64_t mask = kept.load();
  bool done = true;
  for (int capability = 0; capability <= CAPABILITY_MAX; capability++) {
    if ((mask >> capability & 1) != 0) continue;
    // Both end at the first number that the kernel does not have. Lowering the bounding set needs CAP_SETPCAP; a process
    // without it gains nothing by programs it starts either, because of what follows.
    if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0) break;
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, capability, 0, 0);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) done = false;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2];
  if (syscall(SYS_capget, &header, sets) != 0) done = false;
  for (int word = 0; word < 2; word++) {
    const uint32_t part = static_cast<uint32_t>(mask >> (32 * word));
    // What is not there cannot be kept.
    sets[word].permitted &= part;
    sets[word].effective &= part;
    sets[word].inheritable &= part;
  }
  if (done && syscall(SYS_capset, &header, sets) != 0) done = false;
  if (!done) failed++;
  answered++;
}

/** The threads of this process, by id. */
std::set<int> threads() {
  std::set<int> ids;
  DIR* directory = opendir("/proc/self/task");
  if (directory == nullptr) return ids;
  while (const dirent* entry = readdir(directory)) {
    const int id = atoi(entry->d_name);
    if (id > 0) ids.insert(id);
  }
  closedir(directory);
  return ids;
}

/** struct kernel_sigaction, as rt_sigaction(2) takes it: the handler, flags, where there is one the restorer, and the mask. */
struct KernelAction {
  unsigned char bytes[64];
};

bool rawAction(int number, const KernelAction* set, KernelAction* get) {
  constexpr size_t MASK_BYTES = 8;
  return syscall(SYS_rt_sigaction, number, set, get, MASK_BYTES) == 0;
}

/**
 * Have `giveUp` handle EVERY_THREAD, which the C library refuses: it takes another signal's handler, and the kernel's
 * form of that, with the restorer of this C library, is what both have. `before` is what to put back.
 */
bool handleEveryThread(KernelAction* before) {
  const int lent = SIGRTMIN + 7;
  struct sigaction action = {}, lentBefore;
  action.sa_handler = giveUp;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  KernelAction ours = {};
  if (sigaction(lent, &action, &lentBefore) != 0) return false;
  const bool handled = rawAction(lent, nullptr, &ours) && rawAction(EVERY_THREAD, &ours, before);
  sigaction(lent, &lentBefore, nullptr);
  return handled;
}

/**
 * keepCapabilities(mask) → number: in every thread keep the capabilities of the mask (bit n is capability n) that are
 * there, give up all others for good, and gain none by starting programs. No core dump is written from now on, and no
 * other process of the same user can look into this one. Returns how many threads did not do it
 * within a second; 0 is right.
 */
napi_value keepCapabilities(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t mask;
  if (!takeArguments(env, info, 1, &argument) || !takeInt(env, argument, 0, (int64_t{1} << 53) - 1, &mask)) return nullptr;
  kept = static_cast<uint64_t>(mask);
  answered = failed = 0;
  KernelAction before = {};
  if (!handleEveryThread(&before)) return fail(env, "EINVAL", "There is no signal to reach the threads with.");
  // First, so that whoever sees the capabilities gone sees a process that nobody may look into.
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // Threads that are made meanwhile have what their makers had: look until there is none that was not told.
  std::set<int> told;
  int sent = 0;
  for (bool found = true; found;) {
    found = false;
    for (const int id : threads()) {
      if (!told.insert(id).second) continue;
      if (syscall(SYS_tgkill, getpid(), id, EVERY_THREAD) == 0) sent++;
      found = true;
    }
    for (int waits = 0; answered < sent && waits < WAITS_MAX; waits++) {
      const timespec pause = {0, WAIT_NS};
      nanosleep(&pause, nullptr);
    }
  }
  // A late thread that found the signal as it was before would end the process.
  if (answered >= sent) rawAction(EVERY_THREAD, &before, nullptr);
  return giveInt(env, sent - answered + failed);
}

/**
 * runFirst(priority) → boolean: the calling thread runs before every ordinary one (SCHED_RR, sched(7), 1 to 99), threads
 * that it makes do not. False where that is not permitted. Niceness would not do: it counts among the threads of one session only.
 */
napi_value runFirst(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t priority;
  if (!takeArguments(env, info, 1, &argument) || !takeInt(env, argument, 1, 99, &priority)) return nullptr;
  sched_param parameters = {};
  parameters.sched_priority = static_cast<int>(priority);
  const bool first = sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameters) == 0;
  napi_value result;
  napi_get_boolean(env, first, &result);
  return result;
}

}  // namespace

void registerPrivileges(napi_env env, napi_value exports) {
  setFunction(env, exports, "keepCapabilities", keepCapabilities);
  setFunction(env, exports, "runFirst", runFirst);
}
