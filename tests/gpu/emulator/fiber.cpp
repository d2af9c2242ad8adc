#include "tests/gpu/emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "tensor/error.h"

#if defined(__has_feature)
#define CLANG_HAS(feature) __has_feature(feature)
#else
#define CLANG_HAS(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || CLANG_HAS(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(...)
#define __sanitizer_finish_switch_fiber(...)
#define __asan_unpoison_memory_region(...)
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace supra::emulator {

// A switch saves the registers that a call preserves on the stack that it leaves, and loads them from the stack that it enters.
// ucontext does the same with two system calls for each switch, and is ten times slower.
#if defined(__x86_64__)
using Registers = void*;  // the stack pointer

extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size emulator_switch, .-emulator_switch
)");

static void switch_to(Registers& save, Registers& load) { emulator_switch(&save, load); }

static void prepare(Registers& registers, char*, char* stack_end, void (*entry)()) {
  // entry() finds the stack as after a call: 8 bytes below a multiple of 16
  void** top = reinterpret_cast<void**>(stack_end);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; saved++) *--top = nullptr;
  registers = top;
}
#else
using Registers = ucontext_t;

static void switch_to(Registers& save, Registers& load) { swapcontext(&save, &load); }

static void prepare(Registers& registers, char* stack, char* stack_end, void (*entry)()) {
  getcontext(&registers);
  registers.uc_stack.ss_sp = stack;
  registers.uc_stack.ss_size = static_cast<size_t>(stack_end - stack);
  registers.uc_link = nullptr;
  makecontext(&registers, entry, 0);
}
#endif

constexpr size_t kPage = 4096;
// Only pages that were touched take memory. The number of pages is odd, and stacks begin at different places of a page, because
// addresses a power of two apart share few lines of the caches.
constexpr size_t kStackBytes = 33 * kPage;
static char* beginning(char* stack) {
  return stack + kStackBytes - reinterpret_cast<uintptr_t>(stack) / kStackBytes % 8 * (kPage / 8);
}

struct FiberContext {
  Registers registers;
  char* stack;
  void (*entry)();
  void* fake_stack = nullptr;  // of the address sanitizer
};

namespace {

struct Scheduler {
  Registers registers = {};
  FiberContext* running = nullptr;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
};
constinit thread_local Scheduler scheduler;

void begin() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.stack_bytes);
  scheduler.running->entry();
}

}  // namespace

Fiber::~Fiber() {
  if (!context_) return;
  munmap(context_->stack, kStackBytes);
  delete context_;
}

void Fiber::start(void (*entry)()) {
  if (!context_) {
    void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(stack != MAP_FAILED, "emulator: no memory for the stack of a thread");
    // a stack that overflows stops the program instead of overwriting another one
    mprotect(stack, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
    context_ = new FiberContext;
    context_->stack = static_cast<char*>(stack);
  }
  __asan_unpoison_memory_region(context_->stack, kStackBytes);
  context_->entry = entry;
  context_->fake_stack = nullptr;
  prepare(context_->registers, context_->stack, beginning(context_->stack), begin);
}

void Fiber::resume() {
  scheduler.running = context_;
  [[maybe_unused]] void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, context_->stack, kStackBytes);
  switch_to(scheduler.registers, context_->registers);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Fiber::park([[maybe_unused]] bool for_good) {
  __sanitizer_start_switch_fiber(for_good ? nullptr : &context_->fake_stack, scheduler.stack,
                                 scheduler.stack_bytes);
  switch_to(context_->registers, scheduler.registers);
  __sanitizer_finish_switch_fiber(context_->fake_stack, &scheduler.stack, &scheduler.stack_bytes);
}

const char* fibers_trouble() {
#if defined(__SANITIZE_THREAD__) || CLANG_HAS(thread_sanitizer)
  return "the thread sanitizer does not follow the emulator from stack to stack";
#else
  return nullptr;
#endif
}

}  // namespace supra::emulator
