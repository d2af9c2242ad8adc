#include <cmath>

#include "kernels/gemm.h"
#include "supra/formats/model_source.h"
#include "supra/inference/sampler.h"
#include "supra/inference/session.h"
#include "tensor/random.h"
#include "tools/bench/bench.h"
#include "tools/human.h"
#include "tools/memory_plan.h"

// supra bench train, prefill, decode: whole models, with shapes that are usual in benchmarks: Llama's layers, a tied vocabulary
// of 32,000, random weights and tokens.

namespace supra {
namespace {

struct ModelShape {
  const char* name;
  int64_t width, layers, heads, mlp_width;
  int64_t rows, T;  // of a training batch
};
const ModelShape kShapes[] = {
    {"15M", 288, 6, 6, 768, 4, 256}, {"42M", 512, 8, 8, 1376, 4, 256}, {"110M", 768, 12, 12, 2048, 2, 256}};
const ModelShape kGpuShapes[] = {{"110M", 768, 12, 12, 2048, 16, 2048}, {"1.3B", 2048, 24, 16, 5632, 8, 2048}};

std::span<const ModelShape> shapes_for(const BenchOptions& options) {
  if (options.device == Device::cuda) return kGpuShapes;
  return kShapes;
}

const char* name_of(MixerKind kind) { return kind == MixerKind::softmax ? "softmax" : "supra"; }

std::shared_ptr<Decoder> random_decoder(const ModelShape& shape, MixerKind kind) {
  Config config;
  config.vocab = 32000;
  config.width = shape.width;
  config.layers = shape.layers;
  config.heads = config.kv_heads = shape.heads;
  config.head_dim = config.key_dim = config.value_dim = shape.width / shape.heads;
  config.mlp_width = shape.mlp_width;
  config.context = 1 << 17;
  config.tied = true;
  config.mixers.assign(static_cast<size_t>(shape.layers), kind);
  auto decoder = make_decoder(config);
  decoder->init_weights(1);
  return decoder;
}

std::vector<int32_t> random_tokens(int64_t n, int64_t vocab) {
  Philox random(1, 0);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.next() % static_cast<uint32_t>(vocab));
  return ids;
}

// The number of parameters in matrices that multiply every token, without the output matrix.
double inner_parameters(Decoder& decoder) {
  const Config& c = decoder.config();
  return static_cast<double>(decoder.parameter_count() - c.vocab * c.width * (c.tied ? 1 : 2));
}

// 1e9 operations per second of a product of 2048 x 2048 matrices, the best of a few: the roof of training.
double sgemm_rate() {
  constexpr int64_t n = 2048;
  const Tensor a = Tensor::full({n, n}, 0.5), b = a.clone(), c = a.clone();
  double best = INFINITY;
  for (int run = 0; run < 5; run++) {
    best = std::min(best, seconds_of([&] {
                      gemm(false, true, n, n, n, a.data<float>(), n, b.data<float>(), n, false,
                           c.data<float>(), n);
                    }));
  }
  return 2.0 * n * n * n / best / 1e9;
}

void bench_train(Bench& bench, const std::string& name, Decoder& decoder, int64_t rows, int64_t T) {
  const int64_t tokens = rows * T;
  Source random(random_tokens(4 * tokens, decoder.config().vocab), {0, static_cast<uint64_t>(4 * tokens)}, 0, {});
  const Corpus corpus = {{random}};
  BatchLoader loader(corpus, rows, T, 1);
  std::vector<Trained> parameters;
  decoder.visit([&](const std::string& path, Var& parameter) { parameters.push_back({path, parameter}); });
  TrainOptions options;
  options.tokens = options.batch_tokens = tokens;
  options.sequence = T;
  const Stage stage = language_model_stage(decoder, options.recipe);
  Optimizer optimizer(parameters, options.adamw);
  const Device device = bench.options().device;
  std::vector<CarriedStates> carried(1);
  reset_peak(device);
  const Timing time = bench.repeat([&] {
    return std::vector<double>{bench.seconds_of([&] {
      accumulate_gradients(stage, loader.next(), carried);
      optimizer.step(3e-4, options.clip, optimizer.gradient_norm());
    })};
  })[0];
  const double flop = 6.0 * static_cast<double>(decoder.parameter_count() * tokens);
  BenchRow* row = bench.add(name, time, {.flop = flop});
  if (!row) return;
  const double speed = static_cast<double>(tokens) / time.seconds;
  const double peak = static_cast<double>(memory_stats(device).peak),
               planned = static_cast<double>(plan_memory(decoder, nullptr, options).peak());
  row->note = format("%s tok/s, %s (planned %s)", format_count(speed).c_str(), format_bytes(peak).c_str(),
                     format_bytes(planned).c_str());
  row->more = {{"tokens_per_second", speed}, {"peak_bytes", peak}, {"planned_bytes", planned}};
  // on a GPU the roof is already that of a product
  if (device == Device::cuda) return;
  const double sgemm = sgemm_rate(), of_sgemm = 100 * flop / time.seconds / 1e9 / sgemm;
  row->note += format(", %.0f%% of sgemm", of_sgemm);
  row->more.insert(row->more.end(), {{"sgemm_gflops", sgemm}, {"percent_of_sgemm", of_sgemm}});
}

void add_speed(BenchRow* row, double tokens) {
  if (!row) return;
  const double speed = tokens / row->time.seconds;
  row->note = format_count(speed) + " tok/s";
  row->more = {{"tokens_per_second", speed}};
}

// A state after `position` tokens, with arbitrary values.
State state_at(const Decoder& decoder, int64_t position) {
  State state = decoder.init_state(1);
  state.positions[0] = position;
  for (size_t i = 0; i < state.layers.size(); i++) {
    for (Var& part : state.layers[i].parts) {
      Shape shape = part.shape();
      if (decoder.mixer(static_cast<int64_t>(i)).kind() == MixerKind::softmax) shape[1] = position + 64;
      part = Var(Tensor::full(shape, 0.01, part.dtype(), part.value().device()));
    }
  }
  return state;
}

}  // namespace

void bench_prefill(Bench& bench, const std::string& name, Decoder& decoder, int64_t tokens) {
  const std::vector<int32_t> ids = random_tokens(tokens, decoder.config().vocab);
  Session session(decoder);
  const Timing time = bench.repeat([&] {
    session.reset();
    return std::vector<double>{bench.seconds_of([&] { session.feed(ids); })};
  })[0];
  const double last = static_cast<double>(decoder.config().vocab * decoder.config().width);
  add_speed(
      bench.add(name, time, {.flop = 2 * (inner_parameters(decoder) * static_cast<double>(tokens) + last)}),
      static_cast<double>(tokens));
}

// A decoding step. A GPU also chooses the token, as in generate(), and the time ends when the id arrives.
void bench_decode(Bench& bench, const std::string& name, Decoder& decoder, int64_t position) {
  const State start = state_at(decoder, position);
  Session session(decoder);
  session.set_state(start.clone());
  Sampler sampler(SamplerOptions{});
  const bool on_gpu = decoder.device() == Device::cuda;
  int32_t id = 1;
  const auto token = [&] {
    session.advance(std::span(&id, 1));
    if (on_gpu) id = sampler.choose(session.logits_there());
  };
  const Timing time = bench.repeat([&] {
    if (session.position() == position + 32) session.set_state(start.clone());
    return std::vector<double>{seconds_of(token)};
  })[0];
  const Config& c = decoder.config();
  double weights = 0, state = 0, written = 0;
  decoder.visit([&](const std::string& path, Var& parameter) {
    // only one row of an untied embedding is read
    const bool looked_up = !c.tied && path == "tok_embeddings.weight";
    if (!looked_up) weights += static_cast<double>(parameter.value().bytes());
  });
  for (int64_t i = 0; i < decoder.layers(); i++) {
    const double bytes = static_cast<double>(decoder.mixer(i).state_bytes(position));
    state += bytes;
    // a step writes its own keys and values into a cache or ring
    if (decoder.mixer(i).kind() == MixerKind::supra) written += bytes;
  }
  const double flop = 2 * (inner_parameters(decoder) + static_cast<double>(c.vocab * c.width));
  BenchRow* row = bench.add(name, time, {.flop = flop, .read = weights + state, .written = written});
  add_speed(row, 1);
  if (!row) return;
  row->more.push_back({"weight_bytes", weights});
  if (const std::string why = session.why_no_graph(); on_gpu && !why.empty()) row->note += ", no graph: " + why;
}

namespace {

using MakeDecoder = std::function<std::shared_ptr<Decoder>()>;

// Moves the model to the device of the bench.
std::shared_ptr<Decoder> place(const MakeDecoder& make, const Bench& bench) {
  std::shared_ptr<Decoder> decoder = make();
  const BenchOptions& options = bench.options();
  if (options.device != Device::cpu) decoder->to(options.device, options.dtype);
  return decoder;
}

// A model to measure.
struct Subject {
  std::string name;
  MakeDecoder make;
  bool grows;           // some layer keeps all keys, so the state grows with the text
  int64_t context = 0;  // of the user's model: longer texts are measured only up to its trained context
};

Subject given_model(const Path& path, Weights weights) {
  const Config config = open_model(path).config;
  return {model_name(path), [=] { return load_model(path, "", weights).decoder; }, position_limit(config) > 0, config.context};
}

// The dtypes of weights of random models.
constexpr Dtype kStored[] = {Dtype::f32, Dtype::f16, Dtype::q8_0, Dtype::q4_0};
constexpr Dtype kStoredOnGpu[] = {Dtype::bf16, Dtype::q8_0, Dtype::q4_0};

// The largest shape with either mixer in every dtype, or the user's model.
std::vector<Subject> inference_subjects(const BenchOptions& options) {
  if (!options.model.empty()) return {given_model(options.model, Weights::folded)};
  std::vector<Subject> subjects;
  const ModelShape& shape = shapes_for(options).back();
  const bool on_gpu = options.device == Device::cuda;
  for (MixerKind kind : {MixerKind::softmax, MixerKind::supra}) {
    for (Dtype dtype : on_gpu ? std::span<const Dtype>(kStoredOnGpu) : kStored) {
      const auto make = [=, &shape] {
        auto decoder = random_decoder(shape, kind);
        decoder->fold();
        quantize(*decoder, dtype);
        return decoder;
      };
      subjects.push_back({format("%s_%s_%s", shape.name, name_of(kind), name(dtype)), make, kind == MixerKind::softmax});
    }
  }
  return subjects;
}

}  // namespace

std::vector<BenchJob> train_jobs(const BenchOptions& options) {
  std::vector<BenchJob> jobs;
  const auto add = [&](const std::string& name, const MakeDecoder& make, int64_t rows, int64_t T) {
    jobs.push_back({{name}, [=](Bench& bench) { bench_train(bench, name, *place(make, bench), rows, T); }});
  };
  if (!options.model.empty()) {
    const Subject model = given_model(options.model, Weights::trainable);
    add("train_" + model.name, model.make, 2, 256);
    if (model.context >= 1024) add("train_" + model.name + "_T1024", model.make, 1, 1024);
    return jobs;
  }
  const std::span<const ModelShape> shapes = shapes_for(options);
  for (const ModelShape& shape : shapes) {
    for (MixerKind kind : {MixerKind::softmax, MixerKind::supra}) {
      const MakeDecoder make = [shape, kind] { return random_decoder(shape, kind); };
      const std::string name = format("train_%s_%s", shape.name, name_of(kind));
      add(name, make, shape.rows, shape.T);
      // the time of a token in longer sequences
      if (options.device == Device::cuda || &shape != kShapes) continue;
      add(name + "_T512", make, 2, 512);
      if (options.long_rows) add(name + "_T8192", make, 1, 8192);
    }
  }
  return jobs;
}

std::vector<BenchJob> prefill_jobs(const BenchOptions& options) {
  std::vector<BenchJob> jobs;
  for (const Subject& model : inference_subjects(options)) {
    for (int64_t tokens : {128, 512, 2048}) {
      if (tokens > 512 && model.context < tokens) continue;
      const std::string name = format("prefill_%s_%ld", model.name.c_str(), static_cast<long>(tokens));
      jobs.push_back({{name}, [=](Bench& bench) { bench_prefill(bench, name, *place(model.make, bench), tokens); }});
    }
  }
  return jobs;
}

std::vector<BenchJob> decode_jobs(const BenchOptions& options) {
  std::vector<BenchJob> jobs;
  for (const Subject& model : inference_subjects(options)) {
    // a cache of keys grows with the position, a state does not
    for (int64_t position : {64, model.grows ? 8192 : 65536}) {
      const std::string name = format("decode_%s_at_%ld", model.name.c_str(), static_cast<long>(position));
      jobs.push_back({{name}, [=](Bench& bench) { bench_decode(bench, name, *place(model.make, bench), position); }});
    }
  }
  return jobs;
}

}  // namespace supra
