#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "supra/formats/fingerprint.h"
#include "supra/formats/parse/json.h"
#include "supra/formats/parameters.h"
#include "supra/training/calibrate.h"
#include "supra/training/divergence.h"
#include "supra/training/recipe.h"

namespace supra {
namespace {

// KL of the teacher with this one layer swapped.
struct Sensitive {
  int64_t layer = 0;
  double kl = 0;
};

// A layer that was made recurrent, and KL on the held-out text: before, after its calibration, after its training.
struct Conversion {
  int64_t layer = 0;
  double before = 0, calibrated = 0, after = 0;
  bool kept = false;
};

int64_t or_none(const std::vector<int64_t>& values, int64_t layer) { return values.empty() ? 0 : values[layer]; }

// One run: what its stages share.
class Progressive {
 public:
  Progressive(Decoder& student, const Decoder& teacher, const RecipeOptions& o)
      : student_(student), teacher_(teacher), goal_(student.config()), bound_(o.convert_bound), on_progress_(o.on_progress) {
    for (int64_t i = 0; i < goal_.layers; i++) {
      if (goal_.mixers[i] != teacher.config().mixers[i]) layers_.push_back(i);
    }
    CHECK(!layers_.empty(), "training: recipe progressive replaces the teacher's layers by the student's, which must all be of one kind (give a student from supra linearize)");
    CHECK(o.keep_softmax_most < static_cast<int64_t>(layers_.size()), "training: --keep-softmax-most %ld leaves none of the student's %zu layers to be made recurrent (give a smaller number)",
          static_cast<long>(o.keep_softmax_most), layers_.size());
    CHECK(goal_.qk_norm == teacher.config().qk_norm, "training: the student's norms of queries and keys are not the teacher's, recipe progressive mixes layers of both (linearize without --qk-norm)");
    for (const auto& ids : o.held_out) {
      if (ids.size() >= 2) held_out_.push_back(Tensor::of(ids, {1, static_cast<int64_t>(ids.size())}));
    }
    to_make_ = layers_.size() - static_cast<size_t>(o.keep_softmax_most);
    Hash text;
    for (const auto& ids : o.held_out) text.add(ids.data(), ids.size() * sizeof(int32_t));
    options_ = format("%ld %g %g %g %016lx", static_cast<long>(o.keep_softmax_most), o.convert_share, o.transfer_share, o.convert_bound,
                      static_cast<unsigned long>(text.value()));
  }

  size_t conversions() const { return to_make_; }
  int64_t layer() const { return layer_; }  // that is being made recurrent; -1: none
  bool has_work() const { return layer_ >= 0 || next() >= 0; }

  // Measures the layers, and leaves the student as its teacher is.
  std::string prepare(const std::vector<Batch>& batches) {
    const NoGrad off;
    CHECK(!held_out_.empty(), "training: recipe progressive needs held-out text to judge layers (give --valid)");
    remember();
    copy_teacher();
    if (!batches.empty()) calibrate(student_, teacher_, batches);
    for (const int64_t layer : layers_) order_.push_back({layer, 0});
    int64_t tokens = 0, done = 0;
    for (const Tensor& text : held_out_) {
      const Steps steps = {{0}, {}, {}};
      Var x = teacher_.embed(text, steps);
      size_t at = 0;
      for (int64_t i = 0; i < goal_.layers; i++) {
        if (at < layers_.size() && layers_[at] == i)
          order_[at++].kl += divergence(student_, swapped_hidden(student_, teacher_, i, x, steps), teacher_, taught(done)) * static_cast<double>(text.numel());
        x = teacher_.block(i, x, steps);
      }
      tokens += text.numel();
      done++;
      if (on_progress_) on_progress_(done, static_cast<int64_t>(held_out_.size()));
    }
    for (Sensitive& one : order_) {
      one.kl /= static_cast<double>(tokens);
      // it comes last
      if (!std::isfinite(one.kl)) one.kl = INFINITY;
    }
    std::stable_sort(order_.begin(), order_.end(), [](const Sensitive& a, const Sensitive& b) { return a.kl < b.kl; });
    set_layers({});
    copy_teacher();
    return table();
  }

  // Makes the next layer recurrent: calibrated with what the student gives it and what the teacher's made of it.
  std::string begin(const std::vector<Batch>& batches) {
    const NoGrad off;
    layer_ = next();
    std::set<int64_t> made = made_;
    made.insert(layer_);
    set_layers(made);
    if (!batches.empty()) calibrate(student_, teacher_, batches, Calibration::correction, layer_);
    conversions_.push_back({layer_, kl_, divergence_now()});
    return format("layer %ld becomes recurrent: KL %.4f, %.4f when calibrated", static_cast<long>(layer_), kl_, conversions_.back().calibrated);
  }

  // The layer learns to say, of the student's stream, what the teacher's says.
  Tensor transfer(const Batch& batch, double weight) const {
    const Steps steps = steps_of(batch);
    Var own, taught;
    Tensor target;
    {
      const NoGrad off;
      own = student_.embed(batch.tokens, steps), taught = teacher_.embed(batch.tokens, steps);
      for (int64_t i = 0; i < layer_; i++) own = student_.block(i, own, steps), taught = teacher_.block(i, taught, steps);
      teacher_.block(layer_, taught, steps, nullptr, [&](int64_t, const Var&, const Var& output, const Steps&) { target = output.value(); });
      own = student_.mixer_input(layer_, own);
    }
    const Var error = relative_error(student_.mixer(layer_).forward(own, steps, nullptr), target, steps.lengths);
    backward(scale(error, weight));
    return error.value();
  }

  Verdict judge() {
    const NoGrad off;
    Conversion& now = conversions_.back();
    now.after = divergence_now();
    const double most = now.before + bound_ * sensitivity_of(layer_);
    now.kept = std::isfinite(now.after) && (bound_ == 0 || now.after <= most);
    layer_ = -1;
    if (now.kept) made_.insert(now.layer), kl_ = now.after;
    else set_layers(made_);
    std::string note = format("layer %ld %s: KL %.4f", static_cast<long>(now.layer), now.kept ? "stays recurrent" : "keeps its softmax for now", now.after);
    if (bound_ > 0) note += format(", at most %.4f is accepted", most);
    return {now.kept, note + format("; %zu of %zu layers are recurrent", made_.size(), layers_.size())};
  }

  std::string record() const {
    Json layers = Json::array(), conversions = Json::array();
    for (const Sensitive& one : order_) layers.push(Json::object({{"layer", one.layer}, {"kl", finite(one.kl)}}));
    for (const Conversion& one : conversions_) {
      conversions.push(Json::object({{"layer", one.layer}, {"kl_before", one.before}, {"kl_calibrated", finite(one.calibrated)},
                                     {"kl_after", finite(one.after)}, {"kept", one.kept}}));
    }
    return Json::object({{"student", origin_}, {"options", options_}, {"layers", std::move(layers)}, {"conversions", std::move(conversions)}, {"unfinished", layer_ >= 0}}).dump(true);
  }

  // Of a checkpoint whose weights are read next.
  void restore(const std::string& record) {
    remember();
    const Json json = Json::parse(record, "the checkpoint's record");
    CHECK(json.at("student").as_string() == origin_, "training: the run was started with another student, %s, not %s (give the same)",
          json.at("student").as_string().c_str(), origin_.c_str());
    CHECK(json.at("options").as_string() == options_,
          "training: the run was started with another --keep-softmax-most, --convert-share, --transfer-share or --convert-bound, or with other held-out text (give the same)");
    for (const Json& one : json.at("layers").as_array()) order_.push_back({one.integer("layer"), one.number("kl") < 0 ? INFINITY : one.number("kl")});
    for (const Json& one : json.at("conversions").as_array()) {
      const Conversion& done = conversions_.emplace_back(Conversion{one.integer("layer"), one.number("kl_before"), one.number("kl_calibrated"), one.number("kl_after"), one.flag("kept")});
      if (done.kept) made_.insert(done.layer), kl_ = done.after;
    }
    std::set<int64_t> made = made_;
    if (json.flag("unfinished")) made.insert(layer_ = conversions_.back().layer);
    set_layers(made);
  }

 private:
  static double finite(double x) { return std::isfinite(x) ? x : -1; }  // JSON knows no other numbers

  double sensitivity_of(int64_t layer) const {
    return std::find_if(order_.begin(), order_.end(), [&](const Sensitive& one) { return one.layer == layer; })->kl;
  }

  // The first layer of the order that was not tried yet, or else was undone once; -1: none.
  int64_t next() const {
    const auto tried = [&](int64_t layer) {
      return std::count_if(conversions_.begin(), conversions_.end(), [&](const Conversion& one) { return one.layer == layer; });
    };
    for (const int64_t most : {0, 1}) {
      for (size_t i = 0; i < to_make_ && i < order_.size(); i++) {
        if (tried(order_[i].layer) <= most && made_.count(order_[i].layer) == 0) return order_[i].layer;
      }
    }
    return -1;
  }

  std::string table() const {
    std::string text = "order  layer  KL where it alone is recurrent";
    for (size_t i = 0; i < order_.size(); i++)
      text += format("\n%5zu  %5ld  %.4f%s", i + 1, static_cast<long>(order_[i].layer), order_[i].kl, i < to_make_ ? "" : "  keeps its softmax");
    return text;
  }

  // What the student has and its teacher has not: with that every layer begins.
  void remember() {
    const_cast<Decoder&>(teacher_).visit([&](const std::string& name, Var& parameter) { old_[name] = parameter.value(); });
    student_.visit([&](const std::string& name, Var& parameter) {
      const auto found = old_.find(name);
      if (found == old_.end() || found->second.shape() != parameter.shape()) fresh_[name] = parameter.value().clone();
    });
    Hash hash;
    for (const auto& [name, tensor] : fresh_) {
      const Tensor here = tensor.to(Device::cpu);
      hash.add(here.raw(), here.bytes());
    }
    origin_ = format("%016lx", static_cast<unsigned long>(hash.value()));
  }

  void copy_teacher() {
    student_.visit([&](const std::string& name, Var& parameter) {
      if (fresh_.count(name) == 0) parameter.value().copy_from(old_.at(name).to(Dtype::f32));
    });
  }

  // Makes these layers the student's own, the others the teacher's. Weights that both have stay; new ones begin as they were.
  void set_layers(const std::set<int64_t>& recurrent) {
    const Config& teacher = teacher_.config();
    Config config = goal_;
    for (const int64_t layer : layers_) {
      if (recurrent.count(layer) > 0) continue;
      config.mixers[layer] = teacher.mixers[layer];
      if (!config.windows.empty()) config.windows[layer] = or_none(teacher.windows, layer);
      if (!config.far_features.empty()) config.far_features[layer] = or_none(teacher.far_features, layer);
    }
    std::map<std::string, Shape> had;
    student_.visit([&](const std::string& name, Var& parameter) { had[name] = parameter.shape(); });
    student_ = std::move(*with_mixers(student_, config));
    student_.visit([&](const std::string& name, Var& parameter) {
      if (const auto found = had.find(name); found != had.end() && found->second == parameter.shape()) return;
      const auto fresh = fresh_.find(name);
      const bool is_fresh = fresh != fresh_.end() && fresh->second.shape() == parameter.shape();
      parameter.value().copy_from(is_fresh ? fresh->second : old_.at(name).to(Dtype::f32));
    });
  }

  // The teacher's hidden states of a held-out sequence.
  const Tensor& taught(size_t i) {
    if (taught_.empty()) {
      for (const Tensor& text : held_out_) taught_.push_back(teacher_.hidden(text).value());
    }
    return taught_[i];
  }

  double divergence_now() {
    double sum = 0, tokens = 0;
    for (size_t i = 0; i < held_out_.size(); i++) {
      const double n = static_cast<double>(held_out_[i].numel());
      sum += n * divergence(student_, student_.hidden(held_out_[i]).value(), teacher_, taught(i));
      tokens += n;
    }
    return sum / tokens;
  }

  Decoder& student_;
  const Decoder& teacher_;
  const Config goal_;
  const double bound_;
  const std::function<void(int64_t, int64_t)> on_progress_;
  std::vector<int64_t> layers_;          // in which student and teacher differ
  size_t to_make_ = 0;                   // of them
  std::vector<Tensor> held_out_, taught_;
  std::map<std::string, Tensor> old_;    // the teacher's parameters
  std::map<std::string, Tensor> fresh_;  // the student's that its teacher has not, as they were at first
  std::string origin_;                   // a hash of these
  std::string options_;                  // that a resumed run must have, too
  std::vector<Sensitive> order_;
  std::vector<Conversion> conversions_;
  std::set<int64_t> made_;
  int64_t layer_ = -1;
  double kl_ = 0;
};

}  // namespace

Recipe progressive_recipe(Decoder& student, const Decoder& teacher, const RecipeOptions& o) {
  const auto run = std::make_shared<Progressive>(student, teacher, o);
  Recipe recipe;
  recipe.prepare = [run](const std::vector<Batch>& batches) { return run->prepare(batches); };
  recipe.record = [run] { return run->record(); };
  recipe.restore = [run](const std::string& record) { run->restore(record); };
  const auto begin = [run](const std::vector<Batch>& batches) { return run->begin(batches); };
  const auto idle = [run] { return !run->has_work(); };
  // a sixth of the conversions, at least one, may be tried again
  const size_t n = run->conversions(), retries = (n + 5) / 6;
  std::vector<double> shares, rates;
  for (size_t i = 1; i <= n + retries; i++) {
    const double part = static_cast<double>(std::min(i, n)) / static_cast<double>(n);
    shares.push_back(1 + part);
    // with few recurrent layers there is little to heal, and a large step would only harm the others
    rates.push_back(o.lr * std::max(0.25, part));
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (size_t i = 0; i < shares.size(); i++) {
    const double share = o.convert_share * shares[i] / sum;
    if (o.transfer_share > 0) {
      Stage& stage = recipe.stages.emplace_back();
      stage.name = format("transfer-%zu", i + 1);
      stage.share = share * o.transfer_share;
      stage.lr = o.transfer_lr;
      stage.cost = 1.5;
      stage.trains = [run](const std::string& name) {
        return run->layer() < 0 || name.starts_with(format("layers.%ld.attention.", static_cast<long>(run->layer())));
      };
      stage.learn = [run](const Batch& batch, double weight, CarriedStates&) { return run->transfer(batch, weight); };
      stage.begin = begin;
      stage.skip = idle;
    }
    Stage& stage = recipe.stages.emplace_back(distill_stage(student, teacher, o));
    stage.name = format("heal-%zu", i + 1);
    stage.share = share * (1 - o.transfer_share);
    stage.lr = rates[i];
    if (o.transfer_share == 0) stage.begin = begin;
    stage.skip = idle;
    stage.judge = [run] { return run->judge(); };
  }
  recipe.stages.push_back(distill_stage(student, teacher, o));
  recipe.stages.back().share = 1 - o.convert_share;
  return recipe;
}

}  // namespace supra
