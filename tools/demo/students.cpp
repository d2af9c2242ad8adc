#include "tools/demo/students.h"

namespace supra {
namespace {

using Init = LinearizeOptions::Init;

Student untrained(const char* name, MixerKind mixer, int64_t key_dim) {
  Student s = {.name = name, .linear = {}, .recipe = {}};
  s.linear.mixer = mixer;
  s.linear.init = Init::identity;
  s.linear.key_dim = key_dim;
  return s;
}

// The paper's student: new feature maps, lightning decays, GroupNorm, the language-model loss on all weights.
Student of_paper(const char* name) { return {.name = name, .linear = {}, .recipe = RecipeKind::supra, .in_study = true}; }

Student with_decay(const char* name, DecayConfig::Kind kind, DecayConfig::Source source = DecayConfig::Source::fixed) {
  Student s = of_paper(name);
  s.linear.decay.kind = kind;
  s.linear.decay.source = source;
  return s;
}

// T2R (arXiv 2103.13076): no decay; the output is divided by the sum of the weights.
Student t2r() {
  Student s = with_decay("t2r", DecayConfig::Kind::none);
  s.linear.output_norm = OutputNorm::denominator;
  return s;
}

Student training(const char* name, Student::Trains trains) {
  Student s = of_paper(name);
  s.trains = trains;
  return s;
}

Student taught(const char* name, RecipeKind recipe, double transfer_share, DecayConfig::Source decay = DecayConfig::Source::fixed, int64_t key_dim = 1, bool output_gate = false,
               MixerKind mixer = MixerKind::supra) {
  Student s = {.name = name, .linear = {}, .recipe = recipe, .transfer_share = transfer_share};
  s.linear.mixer = mixer;
  s.linear.init = Init::identity;
  s.linear.decay.source = decay;
  s.linear.key_dim = key_dim;
  s.linear.output_gate = output_gate;
  return s;
}

// The window whose keys and values, with the sinks', take as many bytes as a state of this many features.
int64_t window_of_bytes(const Config& config, int64_t key_dim, const LinearizeOptions& linear) {
  const int64_t state = config.heads * key_dim * config.head_dim * static_cast<int64_t>(sizeof(float)),
                key = config.kv_heads * 2 * config.head_dim * static_cast<int64_t>(size_of(linear.state_dtype));
  return std::max<int64_t>(1, state / key - linear.sinks);
}

}  // namespace

std::vector<Student> students() {
  return {
      untrained("calibrated", MixerKind::supra, 1),
      untrained("window", MixerKind::window, 4),
      of_paper("supra"),
      training("new-weights", Student::Trains::new_weights),
      training("two-steps", Student::Trains::new_weights_first),
      with_decay("no-decay", DecayConfig::Kind::none),
      t2r(),
      with_decay("retnet-decay", DecayConfig::Kind::retnet),
      with_decay("learned-decay", DecayConfig::Kind::lightning, DecayConfig::Source::learned),
      with_decay("gated-decay", DecayConfig::Kind::lightning, DecayConfig::Source::gated),
      taught("transfer", RecipeKind::transfer, 0.3),
      taught("distill", RecipeKind::distill, 0.3),
      taught("gated-distill", RecipeKind::distill, 0.3, DecayConfig::Source::gated),
      taught("delta-distill", RecipeKind::distill, 0.3, DecayConfig::Source::gated, 1, false, MixerKind::delta),
      taught("wide-gated-distill", RecipeKind::distill, 0.5, DecayConfig::Source::gated, 4, true),
  };
}

Model make_student(const Student& student, const Model& teacher, uint64_t seed) {
  LinearizeOptions linear = student.linear;
  linear.key_dim = std::max<int64_t>(1, linear.key_dim) * teacher.config().head_dim;
  linear.windows = {{window_of_bytes(teacher.config(), linear.key_dim, linear)}};
  linear.seed = seed;
  return linearize(teacher, linear).model;
}

}  // namespace supra
