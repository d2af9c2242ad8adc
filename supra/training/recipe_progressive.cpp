#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "supra/formats/fingerprint.h"
#include "supra/formats/parse/json.h"
#include "supra/formats/parameters.h"
#include "supra/training/calibrate.h"
#include "supra/training/divergence.h"
#include "supra/training/recipe.h"

namespace supra {
namespace {

// A layer, and KL of the teacher if this layer alone is replaced by the student's.
struct Sensitive {
  int64_t layer = 0;
  double kl = 0;
};

// An attempt to make a layer recurrent, and KL on the held-out text: before it, after calibration, after training.
struct Conversion {
  int64_t layer = 0;
  double before = 0, calibrated = 0, after = 0;
  bool kept = false;
};

// One run of the recipe, shared by its stages.
class Progressive {
 public:
  Progressive(Decoder& student, const Decoder& teacher, const RecipeOptions& o)
      : student_(student), teacher_(teacher), o_(o), goal_(student.config()) {
    for (int64_t i = 0; i < goal_.layers; i++) {
      if (goal_.mixers[i] != teacher.config().mixers[i]) order_.push_back({i, 0});
    }
    CHECK(!order_.empty(), "training: recipe progressive replaces the teacher's layers by the student's, which must all be of one kind "
                           "(give a student from supra linearize)");
    CHECK(o.keep_softmax_most < static_cast<int64_t>(order_.size()),
          "training: --keep-softmax-most %ld leaves none of the student's %zu layers to be made recurrent (give a smaller number)",
          static_cast<long>(o.keep_softmax_most), order_.size());
    CHECK(goal_.qk_norm == teacher.config().qk_norm, "training: the student's norms of queries and keys are not the teacher's, "
                                                     "recipe progressive mixes layers of both (linearize without --qk-norm)");
    Hash text;
    for (const auto& ids : o.held_out) {
      text.add(ids.data(), ids.size() * sizeof(int32_t));
      if (ids.size() < 2) continue;
      held_out_.push_back(Tensor::of(ids, {1, static_cast<int64_t>(ids.size())}));
      held_out_tokens_ += static_cast<double>(ids.size());
    }
    options_ = format("%ld %g %g %g %016lx", static_cast<long>(o.keep_softmax_most), o.convert_share, o.transfer_share, o.convert_bound,
                      static_cast<unsigned long>(text.value()));
  }

  // The number of layers that become recurrent.
  size_t conversions() const { return order_.size() - static_cast<size_t>(o_.keep_softmax_most); }
  // The layer that is being made recurrent; -1: none.
  int64_t layer() const { return unfinished_ ? conversions_.back().layer : -1; }
  bool has_work() const { return unfinished_ || next() >= 0; }

  // Measures the layers, and leaves the student as a copy of its teacher.
  std::string prepare(const std::vector<Batch>& batches) {
    const NoGrad off;
    CHECK(!held_out_.empty(), "training: recipe progressive needs held-out text to judge layers (give --valid)");
    remember();
    copy_initial();
    if (!batches.empty()) calibrate(student_, teacher_, batches);
    measure_layers();
    set_layers();
    copy_initial();
    std::string table = "order  layer  KL where it alone is recurrent";
    for (size_t i = 0; i < order_.size(); i++)
      table += format("\n%5zu  %5ld  %.4f%s", i + 1, static_cast<long>(order_[i].layer), order_[i].kl,
                      i < conversions() ? "" : "  keeps its softmax");
    return table;
  }

  // Makes the next layer recurrent, and calibrates it: from the student's inputs to the output of the teacher's layer.
  std::string begin(const std::vector<Batch>& batches) {
    const NoGrad off;
    conversions_.push_back({next(), kl_now()});
    unfinished_ = true;
    set_layers();
    Conversion& now = conversions_.back();
    if (!batches.empty()) calibrate(student_, teacher_, batches, Calibration::correction, now.layer);
    now.calibrated = divergence_now();
    return format("layer %ld becomes recurrent: KL %.4f, %.4f when calibrated", static_cast<long>(now.layer), now.before,
                  now.calibrated);
  }

  // The loss of the layer's mixer on the student's inputs; its target is the output of the teacher's mixer for the same text.
  Tensor transfer(const Batch& batch, double weight) const {
    const Steps steps = steps_of(batch);
    Var input;
    Tensor target;
    {
      const NoGrad off;
      Var own = student_.embed(batch.tokens, steps), taught = teacher_.embed(batch.tokens, steps);
      for (int64_t i = 0; i < layer(); i++) own = student_.block(i, own, steps), taught = teacher_.block(i, taught, steps);
      const auto keep_output = [&](int64_t, const Var&, const Var& output, const Steps&) { target = output.value(); };
      teacher_.block(layer(), taught, steps, nullptr, keep_output);
      input = student_.mixer_input(layer(), own);
    }
    const Var error = relative_error(student_.mixer(layer()).forward(input, steps, nullptr), target, steps.lengths);
    backward(scale(error, weight));
    return error.value();
  }

  // Decides whether the layer stays recurrent.
  Verdict judge() {
    const NoGrad off;
    Conversion& now = conversions_.back();
    const auto is_now = [&](const Sensitive& one) { return one.layer == now.layer; };
    const double most = now.before + o_.convert_bound * std::find_if(order_.begin(), order_.end(), is_now)->kl;
    now.after = divergence_now();
    now.kept = std::isfinite(now.after) && (o_.convert_bound == 0 || now.after <= most);
    unfinished_ = false;
    if (!now.kept) set_layers();
    std::string note = format("layer %ld %s: KL %.4f", static_cast<long>(now.layer),
                              now.kept ? "stays recurrent" : "keeps its softmax for now", now.after);
    if (o_.convert_bound > 0) note += format(", at most %.4f is accepted", most);
    const auto made = std::count_if(conversions_.begin(), conversions_.end(), [](const Conversion& one) { return one.kept; });
    return {now.kept, note + format("; %ld of %zu layers are recurrent", static_cast<long>(made), order_.size())};
  }

  std::string record() const {
    Json layers = Json::array(), conversions = Json::array();
    for (const Sensitive& one : order_) layers.push(Json::object({{"layer", one.layer}, {"kl", finite(one.kl)}}));
    for (const Conversion& one : conversions_) {
      conversions.push(Json::object({{"layer", one.layer}, {"kl_before", one.before}, {"kl_calibrated", finite(one.calibrated)},
                                     {"kl_after", finite(one.after)}, {"kept", one.kept}}));
    }
    const Json all = Json::object({{"student", origin_}, {"options", options_}, {"layers", std::move(layers)},
                                   {"conversions", std::move(conversions)}, {"unfinished", unfinished_}});
    return all.dump(true);
  }

  // Restores the shape of a checkpoint's model; its weights are read next.
  void restore(const std::string& record) {
    remember();
    const Json json = Json::parse(record, "the checkpoint's record");
    CHECK(json.at("student").as_string() == origin_, "training: the run was started with another student, %s, not %s (give the same)",
          json.at("student").as_string().c_str(), origin_.c_str());
    CHECK(json.at("options").as_string() == options_,
          "training: the run was started with another --keep-softmax-most, --convert-share, --transfer-share or --convert-bound, or with other held-out text (give the same)");
    order_.clear();
    for (const Json& one : json.at("layers").as_array())
      order_.push_back({one.integer("layer"), one.number("kl") < 0 ? INFINITY : one.number("kl")});
    for (const Json& one : json.at("conversions").as_array()) {
      conversions_.push_back({one.integer("layer"), one.number("kl_before"), one.number("kl_calibrated"), one.number("kl_after"),
                              one.flag("kept")});
    }
    unfinished_ = json.flag("unfinished");
    set_layers();
  }

 private:
  static std::string key_of(const std::string& name, const Tensor& x) { return name + " " + to_string(x.shape()); }
  static double finite(double x) { return std::isfinite(x) ? x : -1; }  // JSON has no other numbers

  // Whether a layer is the student's own now, not the teacher's.
  bool is_recurrent(int64_t layer) const {
    const auto keeps = [&](const Conversion& one) { return one.kept && one.layer == layer; };
    return layer == this->layer() || std::any_of(conversions_.begin(), conversions_.end(), keeps);
  }

  // The first layer of the order that was not tried yet, or else that was tried and undone once; -1: none.
  int64_t next() const {
    int64_t found = -1, fewest = 2;
    for (size_t i = 0; i < conversions(); i++) {
      const int64_t layer = order_[i].layer;
      const auto tried = [&](const Conversion& one) { return one.layer == layer; };
      const auto tries = std::count_if(conversions_.begin(), conversions_.end(), tried);
      if (tries < fewest && !is_recurrent(layer)) found = layer, fewest = tries;
    }
    return found;
  }

  // Measures KL of the teacher with each layer alone replaced by the student's. The least sensitive layer comes first.
  void measure_layers() {
    for (size_t text = 0; text < held_out_.size(); text++) {
      const Steps steps = {{0}, {}, {}};
      Var x = teacher_.embed(held_out_[text], steps);
      int64_t at = 0;
      for (Sensitive& one : order_) {
        for (; at < one.layer; at++) x = teacher_.block(at, x, steps);
        const Tensor own = swapped_hidden(student_, teacher_, at, x, steps);
        one.kl += divergence(student_, own, teacher_, taught_[text]) * static_cast<double>(held_out_[text].numel());
      }
      if (o_.on_progress) o_.on_progress(static_cast<int64_t>(text) + 1, static_cast<int64_t>(held_out_.size()));
    }
    for (Sensitive& one : order_) {
      one.kl /= held_out_tokens_;
      if (!std::isfinite(one.kl)) one.kl = INFINITY;
    }
    std::stable_sort(order_.begin(), order_.end(), [](const Sensitive& a, const Sensitive& b) { return a.kl < b.kl; });
  }

  // Keeps the initial values of all parameters: the teacher's, and the student's that its teacher does not have.
  void remember() {
    const NoGrad off;
    const_cast<Decoder&>(teacher_).visit([&](const std::string& name, Var& parameter) {
      initial_[key_of(name, parameter.value())] = parameter.value();
    });
    std::map<std::string, Tensor> fresh;
    student_.visit([&](const std::string& name, Var& parameter) {
      if (initial_.count(key_of(name, parameter.value())) == 0) fresh[name] = parameter.value().clone();
    });
    Hash hash;
    for (const auto& [name, tensor] : fresh) {
      initial_[key_of(name, tensor)] = tensor;
      const Tensor here = tensor.to(Device::cpu);
      hash.add(here.raw(), here.bytes());
    }
    origin_ = format("%016lx", static_cast<unsigned long>(hash.value()));
    for (const Tensor& text : held_out_) taught_.push_back(teacher_.hidden(text).value());
  }

  // Gives parameters their initial values: all but these.
  void copy_initial(const std::set<std::string>& but = {}) {
    student_.visit([&](const std::string& name, Var& parameter) {
      const std::string key = key_of(name, parameter.value());
      if (but.count(key) == 0) parameter.value().copy_from(initial_.at(key));
    });
  }

  // Makes the recurrent layers the student's own, the others the teacher's. New weights get their initial values.
  void set_layers() {
    const Config& teacher = teacher_.config();
    const auto entry_or_zero = [](const std::vector<int64_t>& all, int64_t layer) { return all.empty() ? 0 : all[layer]; };
    Config config = goal_;
    for (const auto& [layer, kl] : order_) {
      if (is_recurrent(layer)) continue;
      config.mixers[layer] = teacher.mixers[layer];
      if (!config.windows.empty()) config.windows[layer] = entry_or_zero(teacher.windows, layer);
      if (!config.far_features.empty()) config.far_features[layer] = entry_or_zero(teacher.far_features, layer);
    }
    std::set<std::string> had;
    student_.visit([&](const std::string& name, Var& parameter) { had.insert(key_of(name, parameter.value())); });
    student_ = std::move(*with_mixers(student_, config));
    copy_initial(had);
  }

  // KL of the student as it is, on the held-out text.
  double divergence_now() const {
    double sum = 0;
    for (size_t i = 0; i < held_out_.size(); i++) {
      const Tensor own = student_.hidden(held_out_[i]).value();
      sum += static_cast<double>(held_out_[i].numel()) * divergence(student_, own, teacher_, taught_[i]);
    }
    return sum / held_out_tokens_;
  }

  // The same before the next conversion: after the last one that was kept; 0 before the first.
  double kl_now() const {
    const auto last = std::find_if(conversions_.rbegin(), conversions_.rend(), [](const Conversion& one) { return one.kept; });
    return last == conversions_.rend() ? 0 : last->after;
  }

  Decoder& student_;
  const Decoder& teacher_;
  const RecipeOptions o_;
  const Config goal_;                      // the given student's
  std::vector<Tensor> held_out_, taught_;  // sequences, and the teacher's hidden states of each
  double held_out_tokens_ = 0;
  std::map<std::string, Tensor> initial_;  // values of parameters, by key_of()
  std::string origin_;                     // a hash of the student's own parameters
  std::string options_;                    // other facts that a resumed run must share
  std::vector<Sensitive> order_;           // the layers in which student and teacher differ
  std::vector<Conversion> conversions_;    // all attempts
  bool unfinished_ = false;                // whether the last one is still in training
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
  const size_t n = run->conversions(), attempts = n + (n + 5) / 6;
  // the fraction of the layers that are recurrent after an attempt, if all before it were kept
  const auto made = [n](size_t attempt) { return static_cast<double>(std::min(attempt, n)) / static_cast<double>(n); };
  double sum = 0;
  for (size_t i = 1; i <= attempts; i++) sum += 1 + made(i);
  for (size_t i = 1; i <= attempts; i++) {
    const double share = o.convert_share * (1 + made(i)) / sum;
    if (o.transfer_share > 0) {
      Stage& stage = recipe.stages.emplace_back();
      stage.name = format("transfer-%zu", i);
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
    stage.name = format("heal-%zu", i);
    stage.share = share * (1 - o.transfer_share);
    // with few recurrent layers there is little to heal, and a large step would only harm the others
    stage.lr = o.lr * std::max(0.25, made(i));
    if (o.transfer_share == 0) stage.begin = begin;
    stage.skip = idle;
    stage.judge = [run] { return run->judge(); };
  }
  recipe.stages.push_back(distill_stage(student, teacher, o));
  recipe.stages.back().share = 1 - o.convert_share;
  return recipe;
}

}  // namespace supra
