#include "tools/interrupt.h"

#include <csignal>

namespace supra {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

void on_signal(int) { g_interrupted = 1; }

}  // namespace

void catch_interrupts() {
  g_interrupted = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  // RESETHAND: the second signal has the default handler, which kills the program.
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return g_interrupted; }

}  // namespace supra
