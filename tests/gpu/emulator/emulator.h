#pragma once
#include <cstddef>
#include <cstdint>

// Runs CUDA kernels on the CPU. Each thread of our pool runs one block after another, and runs the threads of a block as
// fibers: a fiber runs until it waits for others (at a barrier, a shuffle, a matrix product of the warp), then the next one in
// the schedule runs. Correct code gives the same bits in every order. Code with a missing barrier does not, because new shared
// and device memory is full of NaN, and so is the target of an asynchronous copy until the thread has waited for it.
//
// The launch reports mistakes as errors that say where, in the same way as launch() reports other errors:
// - a barrier at which only part of a block waits, and which threads wait where
// - vector loads, matrix loads and asynchronous copies from addresses that are not multiples of their size
// - writes behind the shared memory that the launch asked for; with the address sanitizer also reads, and device memory
// - grids, blocks and shared memory larger than a GPU has

namespace supra::emulator {

// The order in which the threads of a block, and blocks, run. 32 threads that are neighbours in this order (a warp, unless the
// order is shuffled) run until all of them wait, so parts of a block that only a barrier keeps together get far apart.
enum class Schedule { in_order, reversed, shuffled };
void set_schedule(Schedule schedule, uint64_t seed = 1);

// How many GPUs the program finds, and the bytes of memory of each; at first 1 and 80 GB.
void set_gpus(int count);
void set_gpu_memory(size_t bytes);

// Shared memory that a block may ask for; at first as much as on Hopper, which is the most.
constexpr size_t kMostShared = 227 * 1024;
void set_most_shared_memory(size_t bytes);

// What cublasLt.h does with an epilogue: runs it (at first); refuses it when the product is run, although the heuristics
// proposed it; or knows no algorithm for it.
enum class Epilogues { run, refused, unknown };
void set_epilogues(Epilogues answer);

// Whether the GPU can read pageable memory of the CPU by itself; false at first. If so, a copy from there is made as late as a
// GPU may make it: before the next work in its stream, or when the program waits for the stream.
void set_reads_pageable_memory(bool on);

// For the parts of the emulator, in a thread of a kernel: ends the launch with an error and does not return. Objects on the
// thread's stack are not destroyed, so they must own no memory.
void fault(const char* what, ...) __attribute__((format(printf, 1, 2)));

}  // namespace supra::emulator
