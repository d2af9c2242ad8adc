#include "tensor/cpu.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "kernels/gemm.h"
#include "kernels/products.h"
#include "tests/support.h"

// A process that gets no matrix registers computes without them. What the kernel said is kept, so each case is a process
// of its own: this program again, with the one test that is meant for it.

namespace supra {
namespace {

constexpr const char* kCase = "SUPRA_TEST_WITHOUT_AMX";

#if defined(__x86_64__)

// arch_prctl(ARCH_REQ_XCOMP_PERM) fails, as in a container with a strict filter.
void refuse_permission() {
  constexpr uint32_t kRequest = 0x1023;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kRequest, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "no seccomp here");
}

// A stack for signals that was large enough before anybody asked for larger registers.
void take_small_signal_stack() {
  static char memory[8192];
  const stack_t stack = {memory, 0, getauxval(AT_MINSIGSTKSZ) < 4096 ? size_t{4096} : size_t{getauxval(AT_MINSIGSTKSZ)}};
  CHECK(sigaltstack(&stack, nullptr) == 0, "no signal stack of %zu bytes", stack.ss_size);
}

int run_again(const char* which) {
  const pid_t child = fork();
  if (child == 0) {
    setenv(kCase, which, 1);
    execl("/proc/self/exe", "run_tests", "--gtest_filter=CpuTest.in_a_process_of_its_own", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif

}  // namespace

#if defined(__x86_64__)

TEST(CpuTest, in_a_process_of_its_own) {
  const char* which = getenv(kCase);
  if (!which) GTEST_SKIP() << "it is run by the two tests below";
  std::string(which) == "refused" ? refuse_permission() : take_small_signal_stack();
  if (std::string(which) == "refused") {
    EXPECT_LT(best_cpu_level(), CpuLevel::amx);
    EXPECT_STRNE(why_no_amx(), "");
  }
  const int64_t n = 64;
  const Tensor a = Tensor::full({n, n}, 1), c = Tensor::empty({n, n});
  set_products(Products::bf16);
  gemm(false, true, n, n, n, a.data<float>(), n, a.data<float>(), n, false, c.data<float>(), n);
  EXPECT_EQ(c.data<float>()[n * n - 1], n);
}

TEST(CpuTest, without_permission_products_are_computed_otherwise) { EXPECT_EQ(run_again("refused"), 0); }
TEST(CpuTest, a_thread_with_a_small_signal_stack_does_no_harm) { EXPECT_EQ(run_again("small stack"), 0); }

#endif

TEST(CpuTest, levels_have_names) {
  for (CpuLevel level : cpu_levels()) EXPECT_STRNE(name(level), "");
  EXPECT_EQ(best_cpu_level() == CpuLevel::amx, std::string(why_no_amx()).empty());
}

}  // namespace supra
