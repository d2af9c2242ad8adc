#include "tests/gpu/emulator/cublasLt.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "tensor/dtype.h"
#include "tensor/error.h"
#include "tests/gpu/emulator/emulator.h"
#include "tests/gpu/emulator/runtime.h"

namespace {

std::string last_words;

cublasStatus_t refuse(cublasStatus_t status, const std::string& why) {
  last_words = why;
  return status;
}
cublasStatus_t invalid(const std::string& why) { return refuse(CUBLAS_STATUS_INVALID_VALUE, why); }

float read(const void* p, cudaDataType_t type, int64_t i) {
  return type == CUDA_R_32F ? static_cast<const float*>(p)[i]
                            : supra::bf16_to_f32(static_cast<const uint16_t*>(p)[i]);
}
void write(void* p, cudaDataType_t type, int64_t i, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(p)[i] = value;
  else
    static_cast<uint16_t*>(p)[i] = supra::f32_to_bf16(value);
}

// An attribute of a wrong size is refused.
template <class T>
cublasStatus_t take(T& field, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return invalid(supra::format("an attribute of %zu bytes in %zu", sizeof(T), bytes));
  memcpy(&field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// op(X) in the order of cuBLAS: element (i, j) of the matrix is X[i + j ld].
struct Sizes {
  uint64_t m, n, k;
};
Sizes sizes_of(const cublasLtMatmulDescOpaque_t& p, const cublasLtMatrixLayoutOpaque_t& a,
               const cublasLtMatrixLayoutOpaque_t& d) {
  return {d.rows, d.cols, p.transposed[0] ? a.rows : a.cols};
}

supra::emulator::Epilogues epilogues = supra::emulator::Epilogues::run;

// True if the epilogue has a vector of D's type: one number for each row of D, or with BGRADB, which writes it, for each
// column.
bool has_vector(const cublasLtMatmulDescOpaque_t& p) {
  return p.epilogue & (CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_BGRADB);
}

// Checks of both the heuristics and the product.
cublasStatus_t check(const cublasLtMatmulDescOpaque_t& p, const cublasLtMatrixLayoutOpaque_t& a,
                     const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& c,
                     const cublasLtMatrixLayoutOpaque_t& d) {
  const auto [m, n, k] = sizes_of(p, a, d);
  const auto fits = [](const cublasLtMatrixLayoutOpaque_t& x, bool transposed, uint64_t rows, uint64_t cols) {
    return x.rows == (transposed ? cols : rows) && x.cols == (transposed ? rows : cols);
  };
  if (m == 0 || n == 0 || k == 0 || d.batch_count < 1)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an empty product");
  if (!fits(a, p.transposed[0], m, k) || !fits(b, p.transposed[1], k, n) || !fits(c, false, m, n))
    return invalid("matrices do not fit together");
  for (const auto* x : {&a, &b, &c, &d}) {
    if (x->ld < static_cast<int64_t>(x->rows)) return invalid("a leading dimension below the rows");
    if (x->batch_count != d.batch_count) return invalid("batches of different sizes");
  }
  if (p.compute != CUBLAS_COMPUTE_32F || p.scale != CUDA_R_32F || a.type != b.type || c.type != d.type ||
      (a.type == CUDA_R_32F && d.type != CUDA_R_32F))
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "a combination of types");
  const uint32_t known[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU,
                            CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_BGRADB};
  if (std::find(std::begin(known), std::end(known), p.epilogue) == std::end(known))
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an epilogue");
  if (has_vector(p) && !p.bias) return invalid("an epilogue without its bias");
  if (has_vector(p) && d.batch_count > 1) return invalid("a bias of a batch without its stride");
  return CUBLAS_STATUS_SUCCESS;
}

bool aligned(const void* p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// op(X), rows by columns, one row after another, as float.
std::vector<float> unpack(const void* p, const cublasLtMatrixLayoutOpaque_t& x, int64_t at, bool transposed,
                          uint64_t rows, uint64_t cols) {
  std::vector<float> out(rows * cols);
  for (uint64_t i = 0; i < rows; i++) {
    for (uint64_t j = 0; j < cols; j++)
      out[i * cols + j] = read(p, x.type, at + (transposed ? j + i * x.ld : i + j * x.ld));
  }
  return out;
}

// D = factor op(A) op(B) + keep C, with the bias and relu of the epilogue. in_halves: sums like an algorithm that splits k.
void multiply(const cublasLtMatmulDescOpaque_t& product, float factor, const void* A,
              const cublasLtMatrixLayoutOpaque_t& a, const void* B, const cublasLtMatrixLayoutOpaque_t& b,
              float keep, const void* C, const cublasLtMatrixLayoutOpaque_t& c, void* D,
              const cublasLtMatrixLayoutOpaque_t& d, bool in_halves) {
  const auto [m, n, k] = sizes_of(product, a, d);
  const bool bias = product.epilogue & CUBLASLT_EPILOGUE_BIAS, relu = product.epilogue & CUBLASLT_EPILOGUE_RELU;
  std::vector<float> sums(m * n);
  for (int64_t batch = 0; batch < d.batch_count; batch++) {
    // sums[j m + i] is element (i, j) of op(A) op(B): (n,m) = op(B)^T (n,k) times op(A)^T (k,m) for gemm()
    const auto left = unpack(A, a, batch * a.batch_offset, product.transposed[0], m, k);
    const auto right = unpack(B, b, batch * b.batch_offset, !product.transposed[1], n, k);
    for (uint64_t j = 0; j < n && product.epilogue == CUBLASLT_EPILOGUE_BGRADB; j++)
      write(const_cast<void*>(product.bias), d.type, j, std::accumulate(&right[j * k], &right[j * k] + k, 0.0f));
    const int64_t half = in_halves ? k / 2 : 0, M = n, N = m, K = k;
    supra::gemm(false, true, M, N, half, right.data(), K, left.data(), K, false, sums.data(), N);
    supra::gemm(false, true, M, N, K - half, right.data() + half, K, left.data() + half, K, true, sums.data(),
                N);
    for (uint64_t j = 0; j < n; j++) {
      for (uint64_t i = 0; i < m; i++) {
        // C is not read if beta is 0: NaN times 0 would be NaN
        float x = factor * sums[j * m + i];
        if (keep != 0) x += keep * read(C, c.type, batch * c.batch_offset + i + j * c.ld);
        if (bias) x += read(product.bias, d.type, i);
        if (relu) x = std::max(x, 0.0f);
        write(D, d.type, batch * d.batch_offset + i + j * d.ld, x);
      }
    }
  }
}

}  // namespace

using supra::emulator::Epilogues;

void supra::emulator::set_epilogues(Epilogues answer) { epilogues = answer; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : last_words.c_str();
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int context;
  *handle = reinterpret_cast<cublasLtHandle_t>(&context);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType_t type, uint64_t rows,
                                        uint64_t cols, int64_t ld) {
  *layout = {type, rows, cols, ld, 0, 1};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t what, const void* value,
                                                size_t bytes) {
  return what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? take(layout->batch_count, value, bytes)
                                                    : take(layout->batch_offset, value, bytes);
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t product, cublasComputeType_t compute,
                                      cudaDataType_t scale) {
  *product = {compute, scale, {CUBLAS_OP_N, CUBLAS_OP_N}, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t what, const void* value,
                                              size_t bytes) {
  switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(product->transposed[0], value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(product->transposed[1], value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(product->epilogue, value, bytes);
    default:
      return take(product->bias, value, bytes);
  }
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
  *preference = {0, 7, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void* value, size_t bytes) {
  switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(preference->reductions, value, bytes);
    default:
      return take(preference->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  *count = 0;
  if (const cublasStatus_t status = check(*product, *a, *b, *c, *d)) return status;
  if (epilogues == Epilogues::unknown && product->epilogue != CUBLASLT_EPILOGUE_DEFAULT)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an epilogue");
  for (int i = 0; i < 3 && i < wanted; i++) {
    const uint32_t* promised = preference->alignment;
    const cublasLtMatmulAlgo_t algo = {
        i, {promised[0], promised[1], promised[2], promised[3]}, preference->workspace};
    results[(*count)++] = {algo, algo.workspace, CUBLAS_STATUS_SUCCESS, 1};
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void* alpha,
                              const void* A, cublasLtMatrixLayout_t a, const void* B,
                              cublasLtMatrixLayout_t b, const void* beta, const void* C,
                              cublasLtMatrixLayout_t c, void* D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (!handle || !algo) return invalid("no handle or no algorithm");
  if (const cublasStatus_t status = check(*product, *a, *b, *c, *d)) return status;
  if (epilogues != Epilogues::run && product->epilogue != CUBLASLT_EPILOGUE_DEFAULT)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an epilogue that the heuristics allowed");
  if (algo->number == 1) return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an algorithm that does not run");
  if (!workspace || !aligned(workspace, 16) || workspace_bytes < algo->workspace)
    return invalid("a workspace that is too small or not aligned");
  const void* const pointers[] = {A, B, C, D};
  for (int i = 0; i < 4; i++) {
    if (!aligned(pointers[i], algo->alignment[i]))
      return invalid(supra::format("%p is no multiple of the %u bytes that were promised", pointers[i],
                                   algo->alignment[i]));
  }
  // alpha, beta and the description of the product are read now, the matrices when the stream comes to this work
  return supra::emulator::put(
             stream,
             [=, p = *product, a = *a, b = *b, c = *c, d = *d, half = algo->number == 2,
              factor = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta)] {
               multiply(p, factor, A, a, B, b, keep, C, c, D, d, half);
               return cudaSuccess;
             }) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : refuse(CUBLAS_STATUS_EXECUTION_FAILED, "the stream refused the product");
}
