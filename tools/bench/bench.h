#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "nn/decoder.h"
#include "supra/formats/file.h"
#include "tensor/parallel.h"
#include "tools/bench/ops_table.h"
#include "tools/bench/roofs.h"

// supra bench: jobs, each of which measures one or a few rows of the same kind, and the bench to which they add
// their rows.

namespace supra {

struct BenchOptions {
  Device device = Device::cpu;
  Dtype dtype = Dtype::f32;  // of activations; the CPU only has kernels for f32
  // written on a GPU before each run, far more than its caches hold, so that inputs are read from memory
  int64_t flush_bytes = 512 << 20;
  double seconds = 0.4;    // a row is repeated for at least this time
  int64_t repeats = 10;    // and at least this often
  bool long_rows = false;  // also measure rows that take minutes
  Path model;  // measured by train, prefill and decode instead of random weights of known shapes
};

// Repeated measurements of the same work.
struct Timing {
  double seconds;  // median
  double spread;   // half the distance between the quartiles, as a fraction of the median
};
Timing timing_of(std::vector<double> seconds);

struct BenchRow {
  std::string name;
  Timing time;
  Work work;
  std::string note = "";  // further results, for people; the same for programs
  std::vector<std::pair<std::string, double>> more = {};
};

class Bench {
 public:
  Bench(BenchOptions options, std::vector<std::string> words);

  const BenchOptions& options() const { return options_; }
  const std::vector<BenchRow>& rows() const { return rows_; }

  // Whether one of the words is a part of the name. Without words all names are wanted.
  bool wants(const std::string& name) const;

  // Runs `f` to warm up and then repeats it as the options say, until Ctrl-C. `f` returns the seconds of each
  // of its parts; this function returns their timings.
  std::vector<Timing> repeat(FunctionRef<std::vector<double>()> f) const;

  // Seconds that f() takes on the device.
  double seconds_of(FunctionRef<void()> f) const;

  // Adds a row, if it is wanted, and returns it so that more can be added to it.
  BenchRow* add(const std::string& name, Timing time, const Work& work);

 private:
  BenchOptions options_;
  std::vector<std::string> words_;
  std::vector<BenchRow> rows_;
  Tensor flush_;
};

struct BenchJob {
  std::vector<std::string> rows;  // names
  std::function<void(Bench&)> run;
};

// Seconds that f() takes.
double seconds_of(FunctionRef<void()> f);

std::vector<BenchJob> kernel_jobs(const BenchOptions& options);  // bench_kernels.cpp: the table of operations
std::vector<BenchJob> train_jobs(const BenchOptions& options);   // bench_models.cpp
std::vector<BenchJob> prefill_jobs(const BenchOptions& options);
std::vector<BenchJob> decode_jobs(const BenchOptions& options);

// Prefill of a number of tokens; decoding of tokens after `position` others. The speed is in BenchRow::more.
void bench_prefill(Bench& bench, const std::string& name, Decoder& decoder, int64_t tokens);
void bench_decode(Bench& bench, const std::string& name, Decoder& decoder, int64_t position);

// Measures one operation, forward and backward, at one of its sizes.
void bench_op(Bench& bench, const OpCase& op, Size size);

}  // namespace supra
