#pragma once
#include "kernels/columns.h"

// Small matrices in scratch memory, for the attention kernels: the time steps of a chunk by the dims of a head. Rows
// are a multiple of 16 floats apart, and the columns up to the next whole vector are zero, so that no loop below has
// a tail. One thread; fixed order.

namespace supra::SUPRA_LEVEL {
namespace {

struct Tile {
  float* at;
  int64_t ld;  // floats from one row to the next
  float* row(int64_t i) const { return at + i * ld; }
};

// The left factor of a product is read one float at a time, so its transpose costs nothing.
struct Factor {
  const float* at;
  int64_t row, column;  // floats from a row, a column to the next
};
inline Factor plain(Tile t) { return {t.at, t.ld, 1}; }
inline Factor transposed(Tile t) { return {t.at, 1, t.ld}; }

inline int64_t whole_vectors(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Scratch memory, divided into tiles.
struct Scratch {
  float* at;
  Tile tile(int64_t rows, int64_t ld) {
    const Tile t = {at, ld};
    at += rows * ld;
    return t;
  }
  float* floats(int64_t n) { return tile(1, n).at; }
};

inline void zero(Tile t, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j += kLanes) store(t.row(i) + j, Vec{});
  }
}

// Copies `rows` rows that are `step` floats apart, times `factor`; rows up to the next whole vector are set to
// zero.
inline void gather(Tile t, const float* source, int64_t step, int64_t rows, int64_t columns, float factor = 1) {
  for (int64_t i = 0; i < rows; i++, source += step)
    for_columns(columns, [&](int64_t j, auto part) { store(t.row(i) + j, part.load(source + j) * factor); });
  zero({t.row(rows), t.ld}, whole_vectors(rows) - rows, columns);
}

// The reverse: target = factor * tile, or target += factor * tile.
inline void scatter(float* target, int64_t step, Tile t, int64_t rows, int64_t columns, bool add, float factor = 1) {
  for (int64_t i = 0; i < rows; i++, target += step) {
    for_columns(columns, [&](int64_t j, auto part) {
      const Vec x = load(t.row(i) + j) * factor;
      part.store(target + j, add ? part.load(target + j) + x : x);
    });
  }
}

inline void scale_rows(Tile t, const float* factors, int64_t rows, int64_t columns, float sign = 1) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j += kLanes) store(t.row(i) + j, load(t.row(i) + j) * (factors[i] * sign));
  }
}

inline float dot_rows(const float* a, const float* b, int64_t columns) {
  Vec total = {};
  for (int64_t j = 0; j < columns; j += kLanes) total = fma(load(a + j), load(b + j), total);
  return sum(total);
}

// to (columns, rows) = from (rows, columns)^T; both sizes are rounded up to whole vectors.
inline void transpose(Tile to, Tile from, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      for_transposed(from.row(i) + j, from.ld, [&](int64_t r, Vec column) { store(to.row(j + r) + i, column); });
    }
  }
}

// Which part of a product is needed when one of its matrices is triangular. m counts rows, n columns, p the
// terms of the sums.
enum class Causal {
  none,
  upper,     // only c with n >= m; other elements may be left unchanged
  from_row,  // a is zero for p < m
  to_row,    // a is zero for p > m
};

struct Product {
  int64_t rows, columns, inner;
  Causal causal = Causal::none;
  float keep = 0;             // c = keep c + a b; 0: the old c is not read
  Tile times = {nullptr, 0};  // c = (a b) * times, element by element
};

template <int R, int C>
inline void product_block(Tile c, Factor a, Tile b, int64_t begin, int64_t end, float keep, Tile times) {
  Vec total[R][C];
  for (int r = 0; r < R; r++) {
    for (int j = 0; j < C; j++) total[r][j] = keep != 0 ? load(c.row(r) + j * kLanes) * keep : Vec{};
  }
  const float* left = a.at + begin * a.column;
  const float* right = b.row(begin);
  for (int64_t p = begin; p < end; p++, left += a.column, right += b.ld) {
    Vec x[C];
    for (int j = 0; j < C; j++) x[j] = load(right + j * kLanes);
    for (int r = 0; r < R; r++) {
      const Vec y = broadcast(left[r * a.row]);
      for (int j = 0; j < C; j++) total[r][j] = fma(y, x[j], total[r][j]);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int j = 0; j < C; j++) {
      const Vec y = times.at ? total[r][j] * load(times.row(r) + j * kLanes) : total[r][j];
      store(c.row(r) + j * kLanes, y);
    }
  }
}

// R rows from row m on, C vectors from column n on
template <int R, int C>
inline void product_rows(Tile c, Factor a, Tile b, const Product& p, int64_t m, int64_t n) {
  if (p.causal == Causal::upper && n + C * kLanes <= m) return;
  const int64_t begin = p.causal == Causal::from_row ? m : 0;
  const int64_t end = p.causal == Causal::to_row && m + R < p.inner ? m + R : p.inner;
  const Tile times = {p.times.at ? p.times.row(m) + n : nullptr, p.times.ld};
  product_block<R, C>({c.row(m) + n, c.ld}, {a.at + m * a.row, a.row, a.column}, {b.at + n, b.ld}, begin, end,
                      p.keep, times);
}

template <int R, int C>
inline void product_columns(Tile c, Factor a, Tile b, const Product& p, int64_t n) {
  int64_t m = 0;
  for (; m + R <= p.rows; m += R) product_rows<R, C>(c, a, b, p, m, n);
  if (R > 4 && p.rows - m >= 4) product_rows<4, C>(c, a, b, p, m, n), m += 4;
  if (p.rows - m >= 2) product_rows<2, C>(c, a, b, p, m, n), m += 2;
  if (p.rows - m >= 1) product_rows<1, C>(c, a, b, p, m, n);
}

// c (rows, columns) = a (rows, inner) b (inner, columns); columns are rounded up to whole vectors.
inline void multiply(Tile c, Factor a, Tile b, const Product& p) {
  // as many sums as hide the latency of a fused multiply-add and fit the registers
  constexpr int kRows = kLanes == 16 ? 8 : 4;
  int64_t n = 0;
  for (; n + kLanes < p.columns; n += 2 * kLanes) product_columns<kRows, 2>(c, a, b, p, n);
  if (n < p.columns) product_columns<8, 1>(c, a, b, p, n);
}

}  // namespace
}  // namespace supra::SUPRA_LEVEL
