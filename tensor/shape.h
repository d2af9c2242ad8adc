#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

// Shape: the sizes of a tensor's dimensions. It is a short list of fixed capacity, so making and copying one allocates no
// memory. It is used like a std::vector<int64_t>.

namespace supra {

class Shape {
 public:
  // The operations use at most 5 dimensions; files of other programs may have more.
  static constexpr size_t kMostDimensions = 8;

  Shape() = default;
  explicit Shape(size_t rank) { resize(rank); }
  Shape(const int64_t* first, const int64_t* last) {
    resize(static_cast<size_t>(last - first));
    std::copy(first, last, begin());
  }
  Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}

  size_t size() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  const int64_t* data() const { return sizes_; }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + rank_; }
  int64_t* begin() { return sizes_; }
  int64_t* end() { return sizes_ + rank_; }
  int64_t operator[](size_t i) const { return sizes_[i]; }
  int64_t& operator[](size_t i) { return sizes_[i]; }
  int64_t back() const { return sizes_[rank_ - 1]; }
  int64_t& back() { return sizes_[rank_ - 1]; }

  // These throw Error if there would be more than kMostDimensions. New sizes are 0.
  void resize(size_t rank) {
    if (rank > kMostDimensions) refuse(rank);
    while (rank_ < rank) sizes_[rank_++] = 0;
    rank_ = rank;
  }
  void push_back(int64_t size) {
    if (rank_ >= kMostDimensions) refuse(rank_ + 1);
    sizes_[rank_++] = size;
  }
  void insert(const int64_t* before, int64_t size) {
    int64_t* const at = sizes_ + (before - sizes_);
    push_back(size);
    std::rotate(at, end() - 1, end());
  }

  bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

 private:
  [[noreturn]] static void refuse(size_t rank);

  size_t rank_ = 0;
  int64_t sizes_[kMostDimensions] = {};
};

int64_t numel(const Shape& shape);          // 1 for the empty shape; throws Error on overflow or a negative size
std::string to_string(const Shape& shape);  // "(2, 63, 64)"

}  // namespace supra
