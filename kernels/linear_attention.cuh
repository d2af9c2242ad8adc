#pragma once
#include <algorithm>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"
#include "tensor/tensor.h"

// What the kernels of linear attention share. They do one operation, a sweep: linear attention over every document and head,
// forwards or backwards in time. The gradients of linear attention are sweeps too (formulas: state_attention.cpp):
//
//         o   q   k   v   S         time
//   fwd   o   q   k   v   S         forwards
//   dq    dq  do  v   k   S^T       forwards
//   dk    dk  v   do  q   dS^T      backwards
//   dv    dv  k   q   do  dS        backwards
//
// The gradients do not depend on one another, so one launch may compute all three. Blocks of the same head are neighbours: what
// one of them reads, the next one finds in the L2 cache.

namespace supra::cuda {

// q, k, v or o: a matrix with a row for each token, in which a head has columns of its own.
template <class T>
struct Operand {
  T* data;
  int64_t step;     // elements from one token to the next
  int64_t width;    // columns of a head
  int64_t sharing;  // query heads that share one of its heads
  bool turned = false;  // RoPE rotates it when it is read, or back when it is written

  __device__ T* at(int64_t token, int64_t h) const { return data + token * step + h / sharing * width; }
};

// S = g S + in_scale k v^T,  o = out_scale q S.   Backwards in time, g is the decay from a step to the one after it, and 1 at
// the document's last step.
template <class T>
struct Sweep {
  int K, V;  // widths of q and k, of v and o
  Operand<T> o;
  Operand<const T> q, k, v;
  bool backwards = false;
  float in_scale = 1, out_scale = 1;
  // The states at the beginning (null: zeros) and at the end (null: not wanted): (B,H,K,V), or (B,H,V,K) if transposed.
  const float* first = nullptr;
  float* last = nullptr;
  bool transposed = false;
  // If not null, each head of o becomes (o - mean) rstd: in the kernel on tensor cores, or by groupnorm after the other kernel.
  float* rstd = nullptr;  // (B,T,H)
  float eps = 0;
  // If not null: the product of each row of o, before it is rounded, with the same row of `factor`: (parts,B,T,H), a part for
  // each block that computes columns of o.
  Operand<const T> factor = {};
  float* dots = nullptr;
  bool masked = false;  // o is 0 where factor is not positive. Only on tensor cores, like Operand::turned.
  bool strict = false;  // a step reads S before it adds to it
};

template <class T>
struct Sweeps {
  int64_t steps, heads, tokens;  // T, H, B*T
  const float* log_decay;
  bool decay_by_token;
  const LinearAttentionDocument* documents;
  int64_t document_count;
  const float *cosine, *sine;
  RopeTurn turn;
  const float* beta = nullptr;  // (B,T,H): if not null, the sweep is a solve (delta_attention.cu)
  int count = 0;
  Sweep<T> each[4] = {};
  // If there are few heads, long documents are cut into segments of whole chunks, so that more blocks can work. Three launches
  // follow one another. In the first (`collects`) each segment but a document's last computes the state that its own steps
  // leave; the first segment starts from the state that comes in. carry_kernel then carries these states from segment to
  // segment. The last launch computes o, and each segment starts from the state that was carried to it. carried
  // (heads_to_do(),segments-1,K,V), carried_decay (heads_to_do(),segments-1): the factor by which a segment decays the state
  // that comes in.
  int segments = 1, segment_chunks = 0;
  bool collects = false;
  float *carried = nullptr, *carried_decay = nullptr;

  explicit Sweeps(const LinearAttentionInputs<T>& in)
      : steps(in.n.T),
        heads(in.n.H),
        tokens(in.n.B * in.n.T),
        log_decay(in.log_decay),
        decay_by_token(in.n.decay_by_token),
        documents(in.documents),
        document_count(in.document_count),
        cosine(in.cosine),
        sine(in.sine),
        turn(in.turn) {}
  void add(const Sweep<T>& sweep) { each[count++] = sweep; }
  // The number of heads of documents, over all sweeps.
  __host__ __device__ int64_t heads_to_do() const { return document_count * heads * count; }
  int64_t blocks_to_do() const { return heads_to_do() * (collects ? segments - 1 : segments); }
};

// One head's state.
struct State {
  float* data;          // null: zeros if it is read, not wanted if it is written
  int64_t row, column;  // elements from one row, or column, to the next

  __device__ float* at(int64_t i, int64_t j) const { return data + i * row + j * column; }
};

// What a block works on: one sweep over one head of one document, or over a segment of it.
template <class T>
struct Head {
  const Sweeps<T>& all;
  const Sweep<T>& sweep;
  LinearAttentionDocument document;
  int64_t index, h;
  int segment;

  __device__ Head(const Sweeps<T>& sweeps, int64_t block)
      : all(sweeps),
        sweep(sweeps.each[block % sweeps.count]),
        index(block % sweeps.heads_to_do()),
        h(block / sweeps.count % sweeps.heads),
        segment(static_cast<int>(block / sweeps.heads_to_do())) {
    const int64_t d = index / sweeps.count / sweeps.heads;
    const int32_t end = static_cast<int32_t>(sweeps.steps);
    document = sweeps.documents ? sweeps.documents[d]
                                : LinearAttentionDocument{static_cast<int32_t>(d), 0, end, end};
  }

  // The steps of a chunk in the order of the sweep: row i of a tile is step first + i * by, for i < rows.
  struct Chunk {
    int64_t first;
    int rows, by;
    __device__ int64_t step(int i) const { return first + i * by; }
  };
  __device__ int chunks(int size) const { return (document.end - document.begin + size - 1) / size; }
  // The chunks of the segment, in the order of the sweep.
  __device__ int first_chunk() const { return segment * all.segment_chunks; }
  __device__ int end_chunk(int size) const {
    return std::min(first_chunk() + all.segment_chunks, chunks(size));
  }
  // Chunks begin at the same steps in both directions.
  __device__ Chunk chunk(int c, int size) const {
    if (sweep.backwards) c = chunks(size) - 1 - c;
    const int begin = document.begin + c * size, left = document.end - begin,
              rows = left < size ? left : size;
    return sweep.backwards ? Chunk{begin + rows - 1, rows, -1} : Chunk{begin, rows, 1};
  }

  __device__ int64_t token(int64_t t) const { return document.row * all.steps + t; }
  // The index of step t's angles in RoPE's table.
  __device__ int64_t angles(int64_t t) const {
    const int64_t row = all.turn.period == 1 ? 0 : all.turn.period == all.steps ? t : token(t);
    return row * all.turn.width + h * all.turn.head_step;
  }
  // The log of the factor of S at step t, not below -200: e^-200 is zero in f32, and in a sum a much lower number would cost
  // the digits of the others.
  __device__ float log_decay_at(int64_t t) const {
    if (sweep.backwards && ++t == document.end) return 0;
    const float x = all.log_decay[all.decay_by_token ? token(t) * all.heads + h : h];
    return x < -200 ? -200 : x;
  }

  // A row's state comes in at its first document and goes out at its last one. Its gradient goes the other way.
  __device__ bool comes_in() const {
    return sweep.backwards ? document.stop == all.steps : document.begin == 0;
  }
  __device__ bool goes_out() const {
    return sweep.backwards ? document.begin == 0 : document.stop == all.steps;
  }
  __device__ State row_state(const float* states) const {
    const int64_t K = sweep.K, V = sweep.V;
    if (!states) return {};
    float* const own = const_cast<float*>(states) + (document.row * all.heads + h) * K * V;
    return sweep.transposed ? State{own, 1, K} : State{own, V, 1};
  }
  __device__ State carried(int leaves) const {
    const int64_t size = int64_t{sweep.K} * sweep.V;
    return {all.carried + (index * (all.segments - 1) + leaves) * size, sweep.V, 1};
  }
  __device__ float* carried_decay() const { return all.carried_decay + index * (all.segments - 1) + segment; }
  // The state that the block begins with, and the place of the state that it ends with.
  __device__ State first() const {
    if (segment > 0) return all.collects ? State{} : carried(segment - 1);
    return row_state(comes_in() ? sweep.first : nullptr);
  }
  __device__ State last(int size) const {
    if (all.collects) return carried(segment);
    const bool ends = first_chunk() + all.segment_chunks >= chunks(size);
    return row_state(ends && goes_out() ? sweep.last : nullptr);
  }
  // The gradient of the state is multiplied by one decay more, that of the document's first step.
  __device__ float last_factor() const {
    const bool through = sweep.backwards && !all.collects && document.begin < document.end;
    return through ? expf(log_decay_at(document.begin - 1)) : 1;
  }
  // Segments behind the document's end have no work.
  __device__ bool idle(int size) const { return segment > 0 && first_chunk() >= chunks(size); }

  // Writes zeros to columns [begin, end) of o behind the document's end.
  __device__ void blank_rest(int64_t begin, int64_t end) const {
    if (segment > 0 || all.collects) return;
    for (int64_t t = document.end; t < document.stop; t++) {
      T* const o = sweep.o.at(token(t), h);
      for (int64_t j = begin + threadIdx.x; j < end; j += blockDim.x) store_1(o + j, 0);
      if (sweep.rstd && threadIdx.x == 0) sweep.rstd[token(t) * all.heads + h] = 0;
    }
  }
};

// Runs one to four sweeps of the same K and V, on tensor cores if mma_can(). Returns the number of parts of `dots`.
template <class T>
int64_t sweep(const Sweeps<T>& sweeps);

// The kernel on tensor cores: the steps of its chunks; whether it can run these sweeps (K and V of 64 or 128, rows aligned to
// 16 bytes); its launch, which is the delta rule's solve if there is a beta.
constexpr int kMmaChunk = 64;
bool mma_can(const Sweeps<Bf16>& sweeps);
void sweep_mma(const Sweeps<Bf16>& sweeps);

// The operands of the forward, and that of a tensor (B,T,H,width).
template <class T>
__host__ __device__ Operand<const T> q_of(const LinearAttentionInputs<T>& in) {
  return {in.q, in.n.q_step, in.n.K, 1, in.cosine != nullptr};
}
template <class T>
__host__ __device__ Operand<const T> k_of(const LinearAttentionInputs<T>& in) {
  return {in.k, in.n.k_step, in.n.K, in.n.H / in.n.Gk, in.cosine != nullptr};
}
template <class T>
__host__ __device__ Operand<const T> v_of(const LinearAttentionInputs<T>& in) {
  return {in.v, in.n.v_step, in.n.V, in.n.H / in.n.Gv};
}
template <class T>
__host__ __device__ Operand<T> by_head(T* data, int64_t H, int64_t width, bool turned = false) {
  return {data, H * width, width, 1, turned};
}

// The gradient of k or v, whose heads may be shared. Each query head writes a gradient of its own, or several parts of one;
// add_up() adds them head by head, so that no sum depends on the order of blocks.
template <class T>
class SharedGradient {
 public:
  SharedGradient(T* to, const LinearAttentionSizes& n, int64_t groups, int64_t width, int64_t parts = 1)
      : to_(to), N_(n.B * n.T * groups), sharing_(n.H / groups * parts), heads_(n.H), width_(width), parts_(parts) {
    if (sharing_ > 1) each_ = Tensor::empty({N_, sharing_, width}, dtype_of<T>(), Device::cuda);
  }
  T* by_head() const { return sharing_ > 1 ? each_.data<T>(Device::cuda) : to_; }
  Operand<T> operand(int64_t part = 0, bool turned = false) const {
    return {by_head() + part * width_, heads_ * parts_ * width_, parts_ * width_, 1, turned};
  }
  void add_up() const {
    if (sharing_ > 1) sum_heads<T>(to_, by_head(), N_, sharing_, width_);
  }

 private:
  T* to_;
  int64_t N_, sharing_, heads_, width_, parts_;
  Tensor each_;
};

// The gradient of the decays from the `dots` of finished sweeps: first that of dq, then those of dk.
template <class T>
void decay_gradient(float* dlog_decay, const float* last_state, int64_t parts, const Sweeps<T>& sweeps);

}  // namespace supra::cuda
