#include "supra/evaluation/verify.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "nn/optim.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/inference/session.h"
#include "supra/supra_attention.h"
#include "tensor/random.h"

namespace supra {

// of the golden runs
constexpr double kZLoss = 1e-4;

using Parameters = std::map<std::string, Var>;

static Parameters parameters_of(Decoder& decoder) {
  Parameters parameters;
  decoder.visit([&](const std::string& name, Var& parameter) { parameters[name] = parameter; });
  return parameters;
}

// While this object lives, the parameters are copies in double on the CPU. Then the old ones are restored.
class InDouble {
 public:
  explicit InDouble(Decoder& decoder)
      : decoder_(decoder), before_(parameters_of(decoder)), device_(decoder.device()), activations_(decoder.activations()) {
    if (device_ != Device::cpu) decoder_.to(Device::cpu);
    decoder_.visit([](const std::string&, Var& parameter) {
      const Tensor wide = Tensor::empty(parameter.shape(), Dtype::f64);
      wide.copy_from(parameter.value());
      parameter = Var(wide, true);
    });
  }
  ~InDouble() {
    if (device_ != Device::cpu) decoder_.to(device_, activations_);
    decoder_.visit([&](const std::string& name, Var& parameter) { parameter = before_.at(name); });
  }
  InDouble(const InDouble&) = delete;
  InDouble& operator=(const InDouble&) = delete;

 private:
  Decoder& decoder_;
  const Parameters before_;
  const Device device_;
  const Dtype activations_;
};

// Everything that a golden file may contain, computed on first use.
class Computed {
 public:
  Computed(Decoder& decoder, const WeightReader& golden) : decoder_(decoder), golden_(golden), parameters_(parameters_of(decoder)) {}

  Tensor get(const std::string& key) {
    if (key == "logits") return logits(decoder_.hidden(tokens())).value();
    if (key == "loss") return loss(0).value();
    if (key == "loss_z1e-4") return loss(kZLoss).value();
    if (key == "greedy.ids") return greedy();
    if (key.starts_with("recurrent_")) run_recurrent();
    if (key.starts_with("grad.")) run_backward();
    if (key.starts_with("adamw.")) run_adamw();
    const auto found = results_.find(key);
    return found == results_.end() ? Tensor() : found->second;
  }

 private:
  Tensor tokens() const { return golden_.get("tokens").to(Dtype::i32); }
  Tensor targets() const { return golden_.get("targets").to(Dtype::i32).view({-1}); }
  Var logits(const Var& hidden) const { return decoder_.logits(hidden); }

  Var loss(double z_loss) const {
    return decoder_.loss(decoder_.hidden(tokens()), targets(), z_loss);
  }

  void run_backward() {
    if (std::exchange(backward_done_, true)) return;
    // the golden gradients are of the loss with its z term
    backward(loss(kZLoss));
    for (auto& [name, parameter] : parameters_) {
      if (parameter.grad().defined()) results_["grad." + name] = parameter.grad();
      parameter.clear_grad();
    }
  }

  // Token by token in the recurrent form. linear_open_lm stores g S, the state already decayed for the next step. If g depends
  // on that step's input, there is no such state.
  void run_recurrent() {
    if (std::exchange(recurrent_done_, true)) return;
    const Tensor ids = tokens();
    const int64_t B = ids.dim(0), T = ids.dim(1), O = decoder_.config().vocab, L = decoder_.layers();
    Session session(decoder_, B);
    const Tensor all = Tensor::empty({B, T, O}, Dtype::f64);
    for (int64_t t = 0; t < T; t++) {
      std::vector<int32_t> column(B);
      for (int64_t b = 0; b < B; b++) column[b] = ids.data<int32_t>()[b * T + t];
      session.advance(column);
      const Tensor step = session.logits_there().to(Device::cpu).to(Dtype::f64);
      for (int64_t b = 0; b < B; b++) std::copy_n(step.data<double>() + b * O, O, all.data<double>() + (b * T + t) * O);
    }
    results_["recurrent_logits"] = all;

    std::vector<double> states;
    Shape shape;
    for (int64_t i = 0; i < L; i++) {
      const auto* mixer = dynamic_cast<const SupraAttention*>(&decoder_.mixer(i));
      if (!mixer) return;
      const Tensor S = session.state().layers[i].parts[0].value().to(Device::cpu).to(Dtype::f64), log_decay = mixer->log_decay();
      if (!log_decay.defined()) return;
      const int64_t H = S.dim(1), size = S.dim(2) * S.dim(3);
      for (int64_t at = 0; at < S.numel(); at++) {
        states.push_back(std::exp(log_decay.data<double>()[at / size % H]) * S.data<double>()[at]);
      }
      shape = S.shape();
    }
    shape.insert(shape.begin(), L);
    results_["recurrent_states"] = Tensor::of(states, shape);
  }

  Tensor greedy() const {
    Session session(decoder_);
    const Tensor prompt = golden_.get("greedy.prompt").to(Dtype::i32);
    session.feed(std::span<const int32_t>(prompt.data<int32_t>(), static_cast<size_t>(prompt.numel())));
    std::vector<int64_t> ids;
    for (int64_t i = golden_.get("greedy.ids").numel(); i > 0; i--) {
      const Tensor logits = session.logits();
      const float* x = logits.data<float>();
      const int32_t best = static_cast<int32_t>(std::max_element(x, x + logits.numel()) - x);
      ids.push_back(best);
      if (i > 1) session.step(std::span(&best, 1));
    }
    return Tensor::of(ids);
  }

  // Ten steps in double, because ten steps of AdamW amplify float32 rounding in an untrained network by a factor of 100,000.
  // The gradients above test the fast kernels.
  void run_adamw() {
    if (std::exchange(adamw_done_, true)) return;
    const InDouble in_double(decoder_);
    const Parameters wide = parameters_of(decoder_);
    std::vector<Trained> trained;
    for (const auto& [name, parameter] : wide) trained.push_back({name, parameter});
    Optimizer optimizer(std::move(trained), {0.9, 0.95, 1e-8, 0.1});
    std::vector<double> losses, norms;
    for (int step = 0; step < 10; step++) {
      const Var mean = loss(kZLoss);
      losses.push_back(mean.value().item());
      backward(mean);
      norms.push_back(optimizer.gradient_norm());
      optimizer.step(3e-3, 1.0, norms.back());
    }
    results_["adamw.loss"] = Tensor::of(losses);
    results_["adamw.grad_norm"] = Tensor::of(norms);
    for (const auto& [name, parameter] : wide) results_["adamw.final." + name] = parameter.value();
  }

  Decoder& decoder_;
  const WeightReader& golden_;
  Parameters parameters_;
  std::map<std::string, Tensor> results_;
  bool backward_done_ = false, recurrent_done_ = false, adamw_done_ = false;
};

// Why `given` cannot be compared; empty if it can.
static std::string mismatch(const std::string& key, const Tensor& given, const Tensor& golden) {
  if (!given.defined()) {
    return key == "recurrent_states" ? "only SUPRA layers whose decay is the same for all tokens have these states"
                                     : "the model has nothing of this name";
  }
  // a single number may be stored without a dimension
  if (given.shape() != golden.shape() && !(golden.shape().empty() && given.numel() == 1))
    return "shape " + to_string(given.shape()) + ", golden " + to_string(golden.shape());
  for (const Tensor& t : {given, golden}) {
    const Tensor wide = t.to(Device::cpu).to(Dtype::f64);
    for (int64_t i = 0; i < wide.numel(); i++)
      if (!std::isfinite(wide.data<double>()[i])) return "a value is NaN or infinite";
  }
  return "";
}

static double largest_magnitude(const Tensor& t) {
  const Tensor wide = t.to(Dtype::f64);
  double largest = 0;
  for (int64_t i = 0; i < wide.numel(); i++) largest = std::max(largest, std::fabs(wide.data<double>()[i]));
  return largest;
}

// VerifyRow::error, with a divisor of at least `floor`.
static double error_of(const std::string& key, const Tensor& given, const Tensor& reference, double floor) {
  const Tensor a = given.to(Device::cpu).to(Dtype::f64), b = reference.to(Dtype::f64);
  double difference = 0;
  int64_t unequal = 0;
  for (int64_t i = 0; i < a.numel(); i++) {
    const double x = a.data<double>()[i], y = b.data<double>()[i];
    difference = std::max(difference, std::fabs(x - y));
    unequal += x != y;
  }
  if (key == "greedy.ids") return static_cast<double>(unequal);
  const double largest = std::max(largest_magnitude(reference), floor);
  return largest > 0 ? difference / largest : difference;
}

// The least divisor of a gradient's error. Reads all gradients.
static double gradient_floor_of(const WeightReader& golden, const VerifyOptions& options) {
  double largest = 0;
  for (const TensorInfo& info : golden.tensors()) {
    if (info.name.starts_with("grad.")) largest = std::max(largest, largest_magnitude(golden.get(info.name)));
  }
  return options.gradient_floor * largest;
}

static double tolerance_of(const std::string& key, const VerifyOptions& options) {
  if (key == "greedy.ids") return 0;
  if (options.tolerance) return *options.tolerance;
  if (options.dtype == Dtype::f64) return kToleranceF64;
  return key.starts_with("adamw.final.") ? kToleranceAfterAdamW : kTolerance;
}

std::vector<VerifyRow> verify(const Model& model, const Path& path, const VerifyOptions& options) {
  const auto golden = open_safetensors(path);
  std::optional<InDouble> in_double;
  if (options.dtype == Dtype::f64) in_double.emplace(*model.decoder);
  Computed computed(*model.decoder, *golden);
  const double gradient_floor = gradient_floor_of(*golden, options);
  std::vector<VerifyRow> rows;
  for (const TensorInfo& info : golden->tensors()) {
    const std::string& key = info.name;
    // inputs, and keys that only describe the golden run
    if (key == "tokens" || key == "targets" || key == "greedy.prompt" || key == "greedy.margin") continue;
    if (options.wanted && !options.wanted(key)) continue;
    VerifyRow row{.key = key, .tolerance = tolerance_of(key, options)};
    row.left_out = key.starts_with("adamw.") && model.decoder->device() != Device::cpu;
    if (!row.left_out) {
      const Tensor given = computed.get(key), expected = golden->get(key);
      row.note = mismatch(key, given, expected);
      if (row.note.empty()) row.error = error_of(key, given, expected, key.starts_with("grad.") ? gradient_floor : 0);
    }
    rows.push_back(row);
  }
  CHECK(!rows.empty(), "%s: holds nothing to compare with", path.c_str());
  return rows;
}

// Changes each weight by at most half of its last float32 digit, like rounding to float32.
static void move_weights(Decoder& decoder) {
  Philox random(1);
  decoder.visit([&](const std::string&, Var& parameter) {
    double* w = parameter.value().data<double>();
    for (int64_t i = 0; i < parameter.numel(); i++) {
      const float x = std::fabs(static_cast<float>(w[i]));
      w[i] += (random.uniform() - 0.5) * static_cast<double>(std::nextafter(x, INFINITY) - x);
    }
  });
}

void measure_weight_rounding(const Model& model, const Path& path, const VerifyOptions& options, std::vector<VerifyRow>& rows) {
  std::vector<VerifyRow*> above;
  for (VerifyRow& row : rows)
    if (row.note.empty() && row.error > row.tolerance) above.push_back(&row);
  if (above.empty()) return;
  const auto golden = open_safetensors(path);
  const auto values = [&](bool moved) {
    const InDouble in_double(*model.decoder);
    if (moved) move_weights(*model.decoder);
    Computed computed(*model.decoder, *golden);
    std::vector<Tensor> all;
    for (const VerifyRow* row : above) all.push_back(computed.get(row->key));
    return all;
  };
  const std::vector<Tensor> exact = values(false), moved = values(true);
  const double gradient_floor = gradient_floor_of(*golden, options);
  for (size_t i = 0; i < above.size(); i++) {
    const std::string& key = above[i]->key;
    above[i]->weight_rounding = error_of(key, moved[i], exact[i], key.starts_with("grad.") ? gradient_floor : 0);
  }
}

}  // namespace supra
