#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/device.h"
#include "tensor/dtype.h"

// The GPU as the processor sees it: what is there, its memory, copies and streams. Includes nothing of CUDA;
// code that runs on the GPU stands in .cu files and starts from tensor/cuda.cuh.
//
// A build without CUDA has none of the .cu files. Their functions are weak there and null, and nobody calls
// them: no tensor can lie on a GPU, because allocate() refuses. (The builds
// for hosts have supra/embed/absent.cpp instead.) So an op may call its CUDA kernel with no
// #ifdef around it.
#if defined(SUPRA_CUDA) || defined(SUPRA_INFERENCE)
#define SUPRA_CU
#else
#define SUPRA_CU __attribute__((weak))
#endif

// CUDA's names for what a cudaStream_t and a cudaGraphExec_t point to
struct CUstream_st;
struct CUgraphExec_st;

namespace supra::cuda {

struct Gpu {
  std::string name;
  int major, minor;  // sm_90 is 9, 0
  int multiprocessors;
  size_t memory;  // bytes
};

SUPRA_CU std::vector<Gpu> gpus();    // empty when there is none; the first one is used
SUPRA_CU std::string versions();     // "CUDA 13.0, the driver knows 12.8"
SUPRA_CU std::string gpu_trouble();  // why the first GPU cannot be used; empty when it can

// True where this build has the .cu files.
inline bool built() {
#if defined(SUPRA_CUDA)
  return true;
#elif defined(SUPRA_INFERENCE)
  return false;
#else
  return gpu_trouble != nullptr;
#endif
}

// Why no GPU can be used, and what to do; empty when one can.
inline std::string why_not() {
  return built() ? gpu_trouble() : "this build has no CUDA kernels (build with make cuda)";
}

// The GPU does what is put into a stream in that order; what lies in two streams it may do at once.
class Stream {
 public:
  using Handle = CUstream_st*;

  SUPRA_CU Stream();
  SUPRA_CU ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Handle handle() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

// Kernels, copies and memory go to the calling thread's current stream: one and the same for all threads,
// until a StreamScope changes it.
SUPRA_CU Stream::Handle current_stream();
// What is put into the current stream from now on waits for everything that is in `other`.
SUPRA_CU void wait_for(Stream::Handle other);
// Waits until everything in the current stream is done. Throws Error when some of it failed.
SUPRA_CU void synchronize();
// Seconds from when the GPU comes to what f() puts into the current stream until it is done with it.
SUPRA_CU double seconds_of(const std::function<void()>& f);

class StreamScope {
 public:
  SUPRA_CU explicit StreamScope(const Stream& stream);
  SUPRA_CU ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream::Handle before_;
};

// Memory of the GPU, aligned to 256 bytes, from CUDA's pool: taking and giving back stand in the stream like
// any work and wait for nothing. It goes back to the stream it was taken in. Null when there is none left.
SUPRA_CU std::shared_ptr<void> allocate(size_t bytes);
SUPRA_CU void fill_bytes(void* memory, int byte, size_t bytes);
// Between two places of which at least one is the GPU's. A copy to the processor waits until it is done; one
// from the processor returns when the source may change.
SUPRA_CU void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes);

// A recording of what f() puts into the current stream: launch() does all of it again, with the addresses that f()
// saw, in one call that costs the processor little. f() itself does nothing yet, and may not copy from or to the
// processor. Memory that f() took goes with the graph and the last tensor in it. Throws Error when f() does, or
// does what cannot be recorded.
class Graph {
 public:
  SUPRA_CU explicit Graph(const std::function<void()>& f);
  SUPRA_CU ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  SUPRA_CU void launch() const;  // into the current stream

 private:
  std::shared_ptr<void> memory_;
  CUgraphExec_st* instance_ = nullptr;
};
// Whether a graph of this thread is being recorded.
SUPRA_CU bool recording();

// ---- elements.cu: in the GPU's memory; dtypes other than those named throw Error
// N rows of C elements: f32 or bf16 from f32, bf16, f16 or a quantised dtype
SUPRA_CU void convert(void* to, Dtype to_dtype, const void* from, Dtype from_dtype, int64_t N, int64_t C);
// n elements of any dtype but the quantised
SUPRA_CU void fill(void* memory, Dtype dtype, double value, int64_t n);
// n elements of f32 or bf16: sum += term
SUPRA_CU void add_into(void* sum, const void* term, Dtype dtype, int64_t n);

}  // namespace supra::cuda
