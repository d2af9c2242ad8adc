#include "supra/training/recipe.h"

namespace supra {

Stage transfer_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options) {
  Stage stage;
  stage.name = "transfer";
  stage.share = options.transfer_share;
  stage.lr = options.transfer_lr;
  stage.cost = 2.7;
  stage.trains = [](const std::string& name) { return name.find(".attention.") != std::string::npos; };
  stage.learn = [&](const Batch& batch, double weight, CarriedStates& carried) {
    int64_t replaced = 0;
    for (int64_t i = 0; i < student.layers(); i++) replaced += has_head_state(student.mixer(i).kind());
    const Tensor total = Tensor::zeros({1}, Dtype::f32, student.device());
    State* past = past_of(batch, student, carried.student);
    // the teacher's weights require no gradients, so its pass stores nothing
    State* taught = past_of(batch, teacher, carried.teacher);
    const auto learn_layer = [&](int64_t layer, const Var& input, const Var& output, const Steps& steps) {
      const Mixer& mixer = student.mixer(layer);
      if (!has_head_state(mixer.kind())) return;
      LayerState* state = past ? &past->layers[layer] : nullptr;
      const Var error = relative_error(mixer.forward(input, steps, state), output.value(), steps.lengths);
      const Var share = scale(error, 1 / static_cast<double>(replaced));
      backward(scale(share, weight));
      add_into(total, share.value());
      // frees the history of this layer
      if (state) {
        for (Var& part : state->parts) part = part.detach();
      }
    };
    teacher.hidden(batch.tokens, taught, batch.lengths, batch.cuts, learn_layer);
    if (past) past->positions = taught->positions;
    return total;
  };
  return stage;
}

}  // namespace supra
