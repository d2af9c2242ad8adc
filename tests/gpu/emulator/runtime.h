#pragma once
#include <functional>
#include <string>

#include "tests/gpu/emulator/cuda_runtime.h"

// What the emulator's parts of CUDA's runtime share.

namespace supra::emulator {

// Remembers the error and the words for it; returns it.
cudaError_t fail_with(cudaError_t error, const std::string& what);

// Does the work now; records it where the stream is captured.
cudaError_t put(cudaStream_t stream, std::function<cudaError_t()> work);

// The same for a copy from memory of the processor, which may be done later (set_reads_pageable_memory()).
cudaError_t put_upload(cudaStream_t stream, std::function<cudaError_t()> work);
// Does the copies that are late in this stream.
void finish_uploads(cudaStream_t stream);
bool reads_pageable_memory();

// While the stream is captured, memory that is given back stays with the graph. False when it is not
// captured.
bool leave_to_graph(cudaStream_t stream, void* memory);

// Memory of the GPU, filled with 0xff. Null when there is none left.
void* take_memory(size_t bytes);
void give_memory_back(void* memory);
bool is_gpu_memory(const void* memory);

}  // namespace supra::emulator
