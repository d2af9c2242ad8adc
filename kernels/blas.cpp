#include "kernels/blas.h"

#include <strings.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "tensor/cpu.h"
#include "tensor/error.h"

#if defined(SUPRA_OPENBLAS)
#include <cblas.h>
#endif

namespace supra {
namespace {

// The processor whose kernels OpenBLAS chose, or null if it is not linked.
const char* core_name() {
#if defined(SUPRA_OPENBLAS)
  return openblas_get_corename();
#else
  return nullptr;
#endif
}

bool asked_for() {
  const char* choice = getenv("SUPRA_BLAS");
  if (!choice || std::string_view(choice) == "builtin") return false;
  CHECK(std::string_view(choice) == "openblas", "SUPRA_BLAS=%s, expected openblas or builtin", choice);
  return true;
}

// An old OpenBLAS on a new processor falls back to very old kernels: 0.3.21 takes a current server core for a Prescott of 2004
// and is five times slower than it could be.
bool made_for_this_processor(const char* core) {
  // all of them use AVX2, those from the third on AVX-512
  static constexpr const char* kCores[] = {"Haswell", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids"};
  const CpuLevel level = best_cpu_level();
  return level == CpuLevel::baseline || std::any_of(kCores + (level >= CpuLevel::avx512 ? 2 : 0), std::end(kCores),
                                                    [=](const char* known) { return strcasecmp(core, known) == 0; });
}

bool used() {
  static const bool answer = [] {
    if (!asked_for() || !core_name() || !made_for_this_processor(core_name())) return false;
#if defined(SUPRA_OPENBLAS)
    openblas_set_num_threads(1);  // our own pool divides the work
#endif
    return true;
  }();
  return answer;
}

}  // namespace

Gemm blas_gemm_for(int64_t M, int64_t N, int64_t K) {
  if (!used() || std::min({M, N, K}) < 64) return nullptr;
#if defined(SUPRA_OPENBLAS)
  return [](bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            bool accumulate, float* c, int64_t ldc) {
    const auto side = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
    cblas_sgemm(CblasRowMajor, side(ta), side(tb), m, n, k, 1, a, lda, b, ldb, accumulate ? 1 : 0, c, ldc);
  };
#else
  return nullptr;
#endif
}

std::string blas_note() {
  const char* core = core_name();
  const std::string builtin = format("built-in %s kernels", name(cpu_level()));
  if (!core) return builtin + " (OpenBLAS is not linked)";
  if (used()) return format("OpenBLAS, its %s kernels", core);
  if (!asked_for()) return builtin + format(" (SUPRA_BLAS=openblas would ask for OpenBLAS, its %s kernels)", core);
  return builtin + format(" (OpenBLAS was asked for, but its %s kernels are behind this processor)", core);
}

}  // namespace supra
