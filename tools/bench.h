#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "nn/decoder.h"
#include "tensor/file.h"
#include "tensor/parallel.h"
#include "tools/ops_table.h"
#include "tools/roofs.h"

// What supra bench is made of: jobs, each of which measures a row or a few of one kind, and the bench they
// add their rows to.

namespace supra {

struct BenchOptions {
  Device device = Device::cpu;
  Dtype dtype = Dtype::f32;  // of activations; the CPU has kernels for f32 alone
  // written on a GPU before each run, far more than its caches hold: what is measured comes from memory
  int64_t flush_bytes = 512 << 20;
  double seconds = 0.4;    // a row is repeated so long,
  int64_t repeats = 10;    // and so often at least
  bool long_rows = false;  // rows that take minutes, too
  Path model;  // measured by train, prefill and decode in the place of random weights of known shapes
};

// The same work, measured again and again.
struct Timing {
  double seconds;  // median
  double spread;   // half the distance of the quartiles, as a part of the median
};
Timing timing_of(std::vector<double> seconds);

struct BenchRow {
  std::string name;
  Timing time;
  Work work;
  std::string note = "";  // what else there is to say, for people; and the same for programs
  std::vector<std::pair<std::string, double>> more = {};
};

class Bench {
 public:
  Bench(BenchOptions options, std::vector<std::string> words);

  const BenchOptions& options() const { return options_; }
  const std::vector<BenchRow>& rows() const { return rows_; }

  // Whether one of the words is a part of the name; all names are wanted where there are no words.
  bool wants(const std::string& name) const;

  // Runs `f` to warm up and then as the options say, until Ctrl-C. It returns the seconds of each of its
  // parts; so does this.
  std::vector<Timing> repeat(FunctionRef<std::vector<double>()> f) const;

  // Seconds that f() takes on the device.
  double seconds_of(FunctionRef<void()> f) const;

  // Adds the row of so much work in that time, if it is wanted; returns it, to say more.
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

// So many tokens that are read from nothing; tokens behind `position` others. Their speed is in BenchRow::more.
void bench_prefill(Bench& bench, const std::string& name, Decoder& decoder, int64_t tokens);
void bench_decode(Bench& bench, const std::string& name, Decoder& decoder, int64_t position);

// One operation, forward and backward, at one of its sizes.
void bench_op(Bench& bench, const OpCase& op, Size size);

}  // namespace supra
