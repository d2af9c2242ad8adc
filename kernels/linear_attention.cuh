#pragma once
#include <algorithm>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"
#include "tensor/tensor.h"

// What the kernels of linear attention share. They know one operation, a sweep: a linear attention over every
// document and head, forwards or backwards in time. The gradients of linear attention are sweeps, too
// (formulas: linear_attention.cpp):
//
//         o   q   k   v   S         time
//   fwd   o   q   k   v   S         forwards
//   dq    dq  do  v   k   S^T       forwards
//   dk    dk  v   do  q   dS^T      backwards
//   dv    dv  k   q   do  dS        backwards
//
// They need nothing of one another, so one launch may do all three: blocks of the same head stand side by
// side, and what one has read the next finds in the L2 cache.

namespace supra::cuda {

// One head's columns of q, k, v or o.
template <class T>
struct Operand {
  T* data;
  int64_t step;     // elements from one token to the next
  int64_t width;    // of a head
  int64_t sharing;  // query heads that share one of its heads
  bool turned = false;  // by RoPE: as it is read; back, as it is written

  __device__ T* at(int64_t token, int64_t h) const { return data + token * step + h / sharing * width; }
};

// S = g S + in_scale k v^T,  o = out_scale q S.   Backwards in time g is the decay between a step and the
// next one, and 1 at the last.
template <class T>
struct Sweep {
  int K, V;  // widths of q and k, of v and o
  Operand<T> o;
  Operand<const T> q, k, v;
  bool backwards = false;
  float in_scale = 1, out_scale = 1;
  // States to begin with and those at the end, or null: zeros, nobody wants them. (B,H,K,V), or (B,H,V,K).
  const float* first = nullptr;
  float* last = nullptr;
  bool transposed = false;
  // o becomes (o - mean) rstd, a head apart; null: it stays. On tensor cores only.
  float* rstd = nullptr;  // (B,T,H)
  float eps = 0;
  // The products of o's rows with those of `factor`, before o is rounded: (parts,B,T,H), a part for each
  // block that makes columns of o; null: none.
  Operand<const T> factor = {};
  float* dots = nullptr;
  bool masked = false;  // o is 0 where factor is. On tensor cores only, as what is turned.
  bool strict = false;  // a step reads S as it is before it adds to it
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
  const float* beta = nullptr;  // of a solve (delta_attention.cu), (B,T,H)
  int count = 0;
  Sweep<T> each[4] = {};
  // Long documents are cut into segments of whole chunks where there are few heads: more blocks can work.
  // First each segment but a document's last collects the state that its own steps leave (the first one goes
  // on from the state that came in), then these are carried from segment to segment, then all is done from
  // there. By block of a segment: states (blocks,segments-1,K,V), and decays by which what came in is left.
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
  // Heads of documents, of all sweeps.
  __host__ __device__ int64_t heads_to_do() const { return document_count * heads * count; }
  int64_t blocks_to_do() const { return heads_to_do() * (collects ? segments - 1 : segments); }
};

// One head's state.
struct State {
  float* data;          // null: zeros, or nobody wants it
  int64_t row, column;  // elements to the next of each

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
  // Those of the segment, in the order of the sweep.
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
  // Where the table has the angles of step t.
  __device__ int64_t angles(int64_t t) const {
    const int64_t row = all.turn.period == 1 ? 0 : all.turn.period == all.steps ? t : token(t);
    return row * all.turn.width + h * all.turn.head_step;
  }
  // The log of what S is multiplied with at step t. e^-200 is zero already, and sums of what is far below
  // would lose the digits of the rest.
  __device__ float log_decay_at(int64_t t) const {
    if (sweep.backwards && ++t == document.end) return 0;
    const float x = all.log_decay[all.decay_by_token ? token(t) * all.heads + h : h];
    return x < -200 ? -200 : x;
  }

  // The row's state comes in at its first document and goes out at its last; gradients the other way round.
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
  // What the block begins with, and where it puts what it ends with.
  __device__ State first() const {
    if (segment > 0) return all.collects ? State{} : carried(segment - 1);
    return row_state(comes_in() ? sweep.first : nullptr);
  }
  __device__ State last(int size) const {
    if (all.collects) return carried(segment);
    const bool ends = first_chunk() + all.segment_chunks >= chunks(size);
    return row_state(ends && goes_out() ? sweep.last : nullptr);
  }
  // The state's gradient has one decay more to go through: the first step's.
  __device__ float last_factor() const {
    const bool through = sweep.backwards && !all.collects && document.begin < document.end;
    return through ? expf(log_decay_at(document.begin - 1)) : 1;
  }
  // Segments past the document's end have nothing to do.
  __device__ bool idle(int size) const { return segment > 0 && first_chunk() >= chunks(size); }

  // Columns [begin, end) of o are 0 past the document's end.
  __device__ void blank_rest(int64_t begin, int64_t end) const {
    if (segment > 0 || all.collects) return;
    for (int64_t t = document.end; t < document.stop; t++) {
      T* const o = sweep.o.at(token(t), h);
      for (int64_t j = begin + threadIdx.x; j < end; j += blockDim.x) store_1(o + j, 0);
      if (sweep.rstd && threadIdx.x == 0) sweep.rstd[token(t) * all.heads + h] = 0;
    }
  }
};

// Does one to four sweeps of the same K and V; bf16 with these 64 or 128, and rows aligned to 16 bytes, on
// tensor cores. Returns the parts in which dots come.
template <class T>
int64_t sweep(const Sweeps<T>& sweeps);

// On tensor cores, in chunks of so many steps.
constexpr int kMmaChunk = 64;
bool mma_can(const Sweeps<Bf16>& sweeps);
void sweep_mma(const Sweeps<Bf16>& sweeps);  // where there is a beta, the solve

// The operands of the forward, and one of a tensor (B,T,H,width).
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

// sum (N,D): row i is the sum of rows i * sharing ... of x, in order.
template <class T>
void add_shared(T* sum, const T* x, int64_t N, int64_t sharing, int64_t D);

// A gradient of a head of k or v: where it is written, and how it gets to where it belongs. Each query head writes one of its
// own, or several parts of it.
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
    if (sharing_ > 1) add_shared<T>(to_, by_head(), N_, sharing_, width_);
  }

 private:
  T* to_;
  int64_t N_, sharing_, heads_, width_, parts_;
  Tensor each_;
};

// The gradient of the decays, after a sweep of dq, the first of these, and those of dk, the second and later ones.
template <class T>
void decay_gradient(float* dlog_decay, const float* last_state, int64_t parts, const Sweeps<T>& sweeps);

}  // namespace supra::cuda
