#include <cublasLt.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <span>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// Matrix products on the GPU, by cuBLASLt: C (M,N) = op(A) (M,K) op(B) (K,N), or +=. Our matrices are row-major and cuBLASLt's
// are column-major, so it takes each of ours for its transpose. We ask it for C^T (N,M) = op(B)^T op(A)^T: the factors change
// places, and each keeps its transposition.
//
// The algorithm that cuBLASLt chose for a product is kept as a plan. Its first proposal depends only on the library, the GPU
// and the product, so with it all runs give the same bits. Its first eight proposals may include a faster one. SUPRA_GEMM=timed
// or time_products() times them, and then another run may choose another one.

namespace supra::cuda {
namespace {

constexpr size_t kWorkspace = 32 << 20;
constexpr int kCandidates = 8;

void check(cublasStatus_t status, const char* what) {
  CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt, %s: %s", what, cublasLtGetStatusString(status));
}

std::atomic<bool>& timed() {
  static std::atomic<bool> on = [] {
    const char* wish = getenv("SUPRA_GEMM");
    CHECK(!wish || std::string_view(wish) == "timed", "SUPRA_GEMM=%s: only \"timed\" is known", wish);
    return wish != nullptr;
  }();
  return on;
}

cublasLtHandle_t library() {
  // never destroyed, like the stream of all work
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made;
    check(cublasLtCreate(&made), "its start");
    return made;
  }();
  return handle;
}

std::mutex mutex;  // protects workspaces and plans

// Products in two streams may run at the same time, so each stream has a workspace of its own, and so has each graph.
std::shared_ptr<void> workspace() {
  static auto& of_stream = *new std::map<Stream::Handle, std::shared_ptr<void>>;
  std::shared_ptr<void> of_graph, &memory = recording() ? of_graph : of_stream[current_stream()];
  if (!memory) memory = allocate(kWorkspace);
  if (!memory)
    throw OutOfMemory(format("out of the memory of the GPU: %zu MB for matrix products (use a smaller batch or a shorter "
                             "sequence)",
                             kWorkspace >> 20));
  return memory;
}

// Everything on which cuBLASLt's choice may depend.
struct Question {
  Product product;
  cudaDataType_t in, out;
  uint32_t epilogue;
  bool accumulate, timed;
  std::array<uint32_t, 4> alignment;  // in bytes, of a, b, c and the vector of the epilogue
  auto operator<=>(const Question&) const = default;
};

struct Operands {
  const void *a, *b;
  void* c;
  const void* vector;  // of the epilogue, or null
};

void set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what, auto value) {
  check(cublasLtMatmulDescSetAttribute(d, what, &value, sizeof value), "a product");
}
void set(cublasLtMatrixLayout_t d, cublasLtMatrixLayoutAttribute_t what, auto value) {
  check(cublasLtMatrixLayoutSetAttribute(d, what, &value, sizeof value), "a matrix");
}
void set(cublasLtMatmulPreference_t d, cublasLtMatmulPreferenceAttributes_t what, auto value) {
  check(cublasLtMatmulPreferenceSetAttribute(d, what, &value, sizeof value), "a preference");
}

struct Plan {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

cublasLtMatrixLayoutOpaque_t layout(cudaDataType_t type, int64_t rows, int64_t columns, int64_t ld,
                                    const Product& p, int64_t step) {
  cublasLtMatrixLayoutOpaque_t made;
  check(cublasLtMatrixLayoutInit(&made, type, columns, rows, ld), "a matrix");
  set(&made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(p.batch));
  set(&made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
  return made;
}

Plan describe(const Question& q, const Operands& at) {
  const Product& p = q.product;
  Plan plan;
  check(cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
  const auto operation = [](bool transposed) {
    return static_cast<int32_t>(transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  };
  set(&plan.product, CUBLASLT_MATMUL_DESC_TRANSA, operation(p.tb));
  set(&plan.product, CUBLASLT_MATMUL_DESC_TRANSB, operation(p.ta));
  set(&plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, q.epilogue);
  set(&plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, at.vector);
  plan.a = p.ta ? layout(q.in, p.K, p.M, p.lda, p, p.a_step) : layout(q.in, p.M, p.K, p.lda, p, p.a_step);
  plan.b = p.tb ? layout(q.in, p.N, p.K, p.ldb, p, p.b_step) : layout(q.in, p.K, p.N, p.ldb, p, p.b_step);
  plan.c = layout(q.out, p.M, p.N, p.ldc, p, p.c_step);
  return plan;
}

cublasStatus_t run(Plan& plan, bool accumulate, const Operands& at) {
  const float one = 1, beta = accumulate ? 1 : 0;
  return cublasLtMatmul(library(), &plan.product, &one, at.b, &plan.b, at.a, &plan.a, &beta, at.c, &plan.c,
                        at.c, &plan.c, &plan.algorithm, workspace().get(), kWorkspace, current_stream());
}

// The seconds of five runs; infinite if the plan does not run.
double seconds(Plan& plan, bool accumulate, const Operands& at) {
  if (run(plan, accumulate, at) != CUBLAS_STATUS_SUCCESS) return INFINITY;
  synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 5; i++) run(plan, accumulate, at);
  synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The fastest of the candidates; without memory, the first. Their products go to memory of their own, because c may be a sum.
cublasLtMatmulAlgo_t fastest(std::span<const cublasLtMatmulHeuristicResult_t> candidates, Plan plan,
                             const Question& q, Operands at) {
  const Product& p = q.product;
  const int64_t elements = (p.batch - 1) * p.c_step + p.M * p.ldc;
  const std::shared_ptr<void> c = allocate(elements * (q.out == CUDA_R_32F ? 4 : 2));
  if (!c) return candidates[0].algo;
  at.c = c.get();
  size_t best = 0;
  double least = INFINITY;
  for (size_t i = 0; i < candidates.size(); i++) {
    plan.algorithm = candidates[i].algo;
    const double time = seconds(plan, q.accumulate, at);
    if (time < least) best = i, least = time;
  }
  return candidates[best].algo;
}

// False if cuBLASLt knows no algorithm.
bool choose_algorithm(Plan& plan, const Question& q, const Operands& at) {
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), "a preference");
  set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspace});
  // if K is cut into parts, they are added in f32 and in order, never in bf16
  set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, q.alignment[1]);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, q.alignment[0]);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, q.alignment[2]);
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, q.alignment[2]);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found;
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library(), &plan.product, &plan.b, &plan.a, &plan.c, &plan.c,
                                     &preference, q.timed ? kCandidates : 1, found.data(), &count);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0) return false;
  plan.algorithm = q.timed ? fastest({found.data(), static_cast<size_t>(count)}, plan, q, at) : found[0].algo;
  return true;
}

// Empty if cuBLASLt knows no algorithm.
std::optional<Plan> plan_for(const Question& q, const Operands& at) {
  Plan plan = describe(q, at);
  return choose_algorithm(plan, q, at) ? std::optional(plan) : std::nullopt;
}

template <class T>
constexpr cudaDataType_t type_of() {
  return dtype_of<T>() == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The alignment in bytes of every matrix of the batch, at most 16: more makes no product faster.
template <class T>
uint32_t alignment(const T* at, int64_t step) {
  return 1u << std::countr_zero(reinterpret_cast<uintptr_t>(at) | step * sizeof(T) | 16);
}

// C = 0, the product if K is 0.
template <class Out>
void clear(const Product& p, Out* c) {
  for (int64_t i = 0; i < p.batch; i++) {
    for (int64_t row = 0; row < p.M; row++) fill_bytes(c + i * p.c_step + row * p.ldc, 0, p.N * sizeof(Out));
  }
}

}  // namespace

void time_products(bool on) { timed() = on; }

// gemm() with an epilogue, done by kernels of our own around a product without one.
template <class T, class Out>
static void in_parts(const Product& p, const T* a, const T* b, bool accumulate, Out* c, const Epilogue<Out>& after) {
  if (after.bias) copy_columns(c, p.ldc, after.bias, 0, p.M, p.N);
  gemm(p, a, b, accumulate || after.bias, c);
  if (after.relu) activation_fwd(c, c, p.M * p.N, Activation::relu);
  if (!after.sums) return;
  fill_bytes(after.sums, 0, p.M * sizeof(float));
  add_rows(after.sums, a, p.K, p.M);
}

template <class T, class Out>
void gemm(const Product& p, const T* a, const T* b, bool accumulate, Out* c, const Epilogue<Out>& after) {
  const auto& [bias, relu, sums] = after;
  if (p.batch == 0 || p.M == 0 || p.N == 0) return;
  CHECK(!(bias || relu || sums) || p.batch == 1, "gemm: an epilogue of a batch");
  CHECK(!(bias || relu) || p.K > 0, "gemm: a bias or a relu of a sum of nothing");
  CHECK(!sums || (type_of<Out>() == CUDA_R_32F && !bias && !relu), "gemm: row sums beside a bias or in bf16");
  // the cases that in_parts() can do
  CHECK(!bias || !accumulate, "gemm: a bias for a product that is added to what is there");
  CHECK(!relu || p.ldc == p.N, "gemm: a relu of columns of a wider matrix");
  CHECK(!sums || (p.ta && p.lda == p.M), "gemm: row sums of a matrix that is not a whole one, transposed");
  if (sums && p.K == 0) fill_bytes(sums, 0, p.M * sizeof(float));
  if (p.K == 0) return accumulate ? void() : clear(p, c);
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  if (bias || relu) epilogue = (bias ? CUBLASLT_EPILOGUE_BIAS : 0) | (relu ? CUBLASLT_EPILOGUE_RELU : 0);
  // our a is the library's b
  if (sums) epilogue = CUBLASLT_EPILOGUE_BGRADB;
  const void* const vector = sums ? static_cast<const void*>(sums) : bias;
  const Question question = {p,
                             type_of<T>(),
                             type_of<Out>(),
                             epilogue,
                             accumulate,
                             timed(),
                             {alignment(a, p.a_step), alignment(b, p.b_step), alignment(c, p.c_step),
                              alignment(static_cast<const char*>(vector), 0)}};
  const Operands at = {a, b, c, vector};
  {
    const std::lock_guard lock(mutex);
    static auto& plans = *new std::map<Question, std::optional<Plan>>;
    auto found = plans.find(question);
    if (found == plans.end()) found = plans.emplace(question, plan_for(question, at)).first;
    std::optional<Plan>& plan = found->second;
    if (plan) {
      set(&plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
      const cublasStatus_t status = run(*plan, accumulate, at);
      if (status == CUBLAS_STATUS_SUCCESS) return;
      if (epilogue == CUBLASLT_EPILOGUE_DEFAULT) check(status, "a product");
      // the heuristics proposed what is now refused; the plan is dropped, so that it is not tried again
      plan.reset();
    }
  }
  if (epilogue != CUBLASLT_EPILOGUE_DEFAULT) return in_parts(p, a, b, accumulate, c, after);
  fail("cuBLASLt knows no way to multiply (%ld,%ld) by (%ld,%ld), %ld times, with rows %ld, %ld and %ld apart",
       long(p.M), long(p.K), long(p.K), long(p.N), long(p.batch), long(p.lda), long(p.ldb), long(p.ldc));
}

template void gemm(const Product&, const float*, const float*, bool, float*, const Epilogue<float>&);
template void gemm(const Product&, const Bf16*, const Bf16*, bool, Bf16*, const Epilogue<Bf16>&);
template void gemm(const Product&, const Bf16*, const Bf16*, bool, float*, const Epilogue<float>&);

}  // namespace supra::cuda
