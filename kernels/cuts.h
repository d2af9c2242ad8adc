#pragma once
#include <span>

#include "kernels/ops.h"

// Documents packed into one row of a batch, and a check that attention operations share. They process a row one document at a
// time, with code that does not depend on the packing.

namespace supra {

// Columns [begin, end) of a row: one document, or the part of it that is in this row.
struct Segment {
  int64_t begin, end;
};

// The first key of a document in a row whose first step is at key `first_step`. Keys before that step belong to the row's first
// document.
inline int64_t first_key(int64_t first_step, Segment document) { return document.begin == 0 ? 0 : first_step + document.begin; }

// Throws unless `cuts` is empty or has B lists that ascend within 1 ... lengths[b] - 1.
void check_cuts(const char* op, const Cuts& cuts, const std::vector<int64_t>& lengths);

// The documents of each row (B) in order; at least one per row, possibly empty. Checks the cuts.
std::vector<std::vector<Segment>> segments(const char* op, const Cuts& cuts, const std::vector<int64_t>& lengths);

// Throws unless q, k and v are (B,T,heads,dim) each and the heads of q can share those of k and v evenly.
void check_heads(const char* op, const Tensor& q, const Tensor& k, const Tensor& v);

// all (B*T): the position of each column. Row b counts from first[b], and from 0 at each of its cuts. Checks the
// cuts. Does not allocate if `all` already had this size.
void positions(std::vector<int64_t>& all, const char* op, std::span<const int64_t> first, int64_t T, const Cuts& cuts);

}  // namespace supra
