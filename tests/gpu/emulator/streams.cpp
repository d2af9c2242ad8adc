#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "tests/gpu/emulator/emulator.h"
#include "tests/gpu/emulator/runtime.h"

// Streams, events and graphs of the emulated GPU.

using Work = std::function<cudaError_t()>;

// Memory that was freed while the stream was captured is used again by every launch of the graph: it keeps its address, and is
// freed with the last copy of the graph.
struct CUgraph_st {
  std::vector<Work> work;
  std::vector<std::shared_ptr<void>> memory;
};
struct CUgraphExec_st : CUgraph_st {};

struct CUstream_st {
  std::unique_ptr<CUgraph_st> captured;
  std::vector<Work> late;  // copies from the CPU's memory that were put off
};

struct CUevent_st {
  std::chrono::steady_clock::time_point when;
};

namespace supra::emulator {

static bool captured(cudaStream_t stream) { return stream && stream->captured; }

static bool late_uploads = false;
void set_reads_pageable_memory(bool on) { late_uploads = on; }
bool reads_pageable_memory() { return late_uploads; }

void finish_uploads(cudaStream_t stream) {
  if (!stream || stream->late.empty()) return;
  for (const Work& copy : std::exchange(stream->late, {})) copy();
}

cudaError_t put_upload(cudaStream_t stream, Work work) {
  if (!late_uploads || captured(stream)) return put(stream, std::move(work));
  stream->late.push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t put(cudaStream_t stream, Work work) {
  finish_uploads(stream);
  if (!captured(stream)) return work();
  stream->captured->work.push_back(std::move(work));
  return cudaSuccess;
}

bool leave_to_graph(cudaStream_t stream, void* memory) {
  if (!captured(stream)) return false;
  stream->captured->memory.emplace_back(memory, give_memory_back);
  return true;
}

}  // namespace supra::emulator

using supra::emulator::captured;
using supra::emulator::fail_with;
using supra::emulator::finish_uploads;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = new CUstream_st, cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  finish_uploads(stream);
  return delete stream, cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  finish_uploads(stream);
  if (!captured(stream)) return cudaSuccess;
  return fail_with(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing");
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  finish_uploads(stream);
  return event->when = std::chrono::steady_clock::now(), cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count(),
         cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (captured(stream)) return fail_with(cudaErrorInvalidValue, "the stream is captured already");
  return stream->captured = std::make_unique<CUgraph_st>(), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!captured(stream)) return fail_with(cudaErrorInvalidValue, "the stream is not captured");
  return *graph = stream->captured.release(), cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return *exec = new CUgraphExec_st{*graph}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return supra::emulator::put(stream, [exec] {
    for (const Work& work : exec->work) {
      if (const cudaError_t error = work(); error != cudaSuccess) return error;
    }
    return cudaSuccess;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
