#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "tensor/cpu.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

// What several tests need: real data that may be absent, tensors of random numbers, and how far two tensors
// differ.

namespace supra {

// Models, corpora and golden files that the repository does not hold.
inline std::filesystem::path shared_dir() {
  const char* given = std::getenv("SUPRA_SHARED");
  return given && *given ? given : "../shared";
}

// A test that needs a file of shared_dir() is skipped by name where the file is absent.
#define SKIP_WITHOUT(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << (path) << " is not here (set SUPRA_SHARED)"

// An empty directory that goes with the test.
class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& where = std::filesystem::temp_directory_path()) {
    std::string pattern = (where / "supra-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data()) ? pattern : "";
    CHECK(!path_.empty(), "cannot make the directory %s", pattern.c_str());
  }
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The levels of kernels that this machine can run.
inline std::vector<CpuLevel> cpu_levels() {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : {CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level <= best_cpu_level()) levels.push_back(level);
  }
  return levels;
}

// Puts the level, the threads and the poisoning back when the test that changed them ends.
class RestoreMachine {
 public:
  RestoreMachine() = default;
  ~RestoreMachine() {
    set_cpu_level(level_);
    set_threads(threads_);
    set_poison(false);
  }
  RestoreMachine(const RestoreMachine&) = delete;
  RestoreMachine& operator=(const RestoreMachine&) = delete;

 private:
  CpuLevel level_ = cpu_level();
  int threads_ = threads();
};

// Normal numbers, each exact in f32 whatever the dtype is, so that an f64 run can judge an f32 one.
inline Tensor random_normal(const Shape& shape, uint64_t seed, Dtype dtype = Dtype::f32) {
  Tensor t = Tensor::empty(shape);
  Philox random(seed);
  for (int64_t i = 0; i < t.numel(); i++) t.data<float>()[i] = static_cast<float>(random.normal());
  return t.to(dtype);
}

// Steps [begin, end) of x (B,T,...), of all rows or of row b.
inline Tensor steps(const Tensor& x, int64_t begin, int64_t end, int64_t b = -1) {
  const int64_t from = b < 0 ? 0 : b, to = b < 0 ? x.dim(0) : b + 1, row = x.numel() / (x.dim(0) * x.dim(1));
  Shape shape = x.shape();
  shape[0] = to - from, shape[1] = end - begin;
  const Tensor y = Tensor::empty(shape, x.dtype());
  for (int64_t r = from; r < to; r++) {
    const Tensor source = x.rows(r, r + 1).view({x.dim(1), row}).rows(begin, end);
    y.rows(r - from, r - from + 1).copy_from(source);
  }
  return y;
}

struct Difference {
  double normalised;  // root of the summed squared error over the summed squared reference
  double largest;     // largest error over the largest magnitude of the reference
};

// Infinite where an element is NaN; not divided where the reference is all zeros.
inline Difference difference(const Tensor& given, const Tensor& reference) {
  check_shape("difference", "the tensor", given.shape(), reference.shape());
  const Tensor a = given.to(Dtype::f64), b = reference.to(Dtype::f64);
  double error2 = 0, sum2 = 0, error = 0, size = 0;
  for (int64_t i = 0; i < a.numel(); i++) {
    const double r = b.data<double>()[i], d = std::fabs(a.data<double>()[i] - r);
    if (std::isnan(d)) return {INFINITY, INFINITY};
    error2 += d * d;
    sum2 += r * r;
    error = std::fmax(error, d);
    size = std::fmax(size, std::fabs(r));
  }
  if (size == 0) return {std::sqrt(error2), error};
  return {std::sqrt(error2 / sum2), error / size};
}

// Rounding of f32, times what a chain of a few hundred operations may make of it. A test scales both, it does
// not invent others.
constexpr double kEps = std::numeric_limits<float>::epsilon();
constexpr double kNormalisedError = 16 * kEps, kLargestError = 64 * kEps;

inline void expect_close(const Tensor& given, const Tensor& reference, const std::string& what,
                         double tolerance = 1) {
  const Difference d = difference(given, reference);
  EXPECT_LE(d.normalised, tolerance * kNormalisedError) << what << ": normalised error";
  EXPECT_LE(d.largest, tolerance * kLargestError) << what << ": largest error";
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

inline bool all_finite(const Tensor& t) {
  const Tensor wide = t.to(Dtype::f64);
  for (int64_t i = 0; i < wide.numel(); i++) {
    if (!std::isfinite(wide.data<double>()[i])) return false;
  }
  return true;
}

// Cuts the bytes of a file at 200 places, and 200 times changes one near its beginning or its end, where what
// describes the rest stands: the parser takes them or complains about `where`.
template <class F>
void expect_survives_abuse(const std::string& text, F parse, const std::filesystem::path& where) {
  Philox random(31);
  const auto survives = [&](const std::string& bytes) {
    const std::string complaint = parse(bytes);
    EXPECT_TRUE(complaint.empty() || complaint.starts_with(where.string())) << complaint;
  };
  for (size_t i = 0; i < 200; i++) survives(text.substr(0, text.size() * i / 200));
  for (size_t i = 0; i < 200; i++) {
    std::string damaged = text;
    const size_t place = random.below(std::min<size_t>(text.size(), 4096));
    damaged[i % 2 ? text.size() - 1 - place : place] ^= static_cast<char>(1 + random.below(255));
    survives(damaged);
  }
}

}  // namespace supra
