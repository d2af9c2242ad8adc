#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "tests/support.h"
#include "tests/tiny_model.h"

// Documents packed behind one another in the rows of a batch against each document alone.

namespace supra {
namespace {

// A batch (B,T) of random tokens, each with a random one to predict. documents: of each row, their lengths.
struct Batch {
  Tensor tokens, targets;
  std::vector<int64_t> lengths;
  Cuts cuts;

  Batch(const std::vector<std::vector<int64_t>>& documents, int64_t T) : cuts(documents.size()) {
    const Shape shape = {static_cast<int64_t>(documents.size()), T};
    tokens = Tensor::zeros(shape, Dtype::i32);
    targets = Tensor::full(shape, kIgnore, Dtype::i32);
    Philox random(9);
    for (size_t b = 0; b < documents.size(); b++) {
      lengths.push_back(0);
      for (int64_t length : documents[b]) {
        if (lengths[b] > 0) cuts[b].push_back(lengths[b]);
        lengths[b] += length;
      }
      for (int64_t t = 0; t < lengths[b]; t++) {
        for (const Tensor& x : {tokens, targets}) x.data<int32_t>()[b * T + t] = static_cast<int32_t>(random.below(61));
      }
    }
  }
};

std::map<std::string, std::shared_ptr<Decoder>> decoders() {
  Config softmax = tiny_config(MixerKind::softmax), learned = softmax;
  softmax.windows = {0, 5};
  learned.learned_positions = true;
  learned.rope.layout = Rope::Layout::none;
  std::map<std::string, std::shared_ptr<Decoder>> all;
  for (const MixerVariant& variant : mixer_variants())
    all[variant.name] = stirred_decoder(tiny_config(variant));
  for (const auto& [name, config] : {std::pair{"windows", softmax}, {"learned positions", learned}}) {
    all[name] = make_decoder(config);
    all[name]->init_weights(3);
    all[name]->visit([](const std::string& parameter, Var& value) {
      if (parameter == "pos_embeddings.weight") value.value().copy_from(random_normal(value.shape(), 4));
    });
  }
  return all;
}

// What add_losses sums up, and the gradient of every parameter. Its argument takes hidden states and targets and adds the
// losses of the latter.
struct Sum {
  double loss = 0;
  std::map<std::string, Tensor> grads;

  using Add = std::function<void(const Var& hidden, const Tensor& targets)>;
  Sum(Decoder& decoder, const std::function<void(const Add& add)>& add_losses) {
    decoder.visit([](const std::string&, Var& parameter) { parameter.clear_grad(); });
    add_losses([&](const Var& hidden, const Tensor& targets) {
      const int32_t* begin = targets.data<int32_t>();
      const auto ignored = std::count(begin, begin + targets.numel(), kIgnore);
      const Var total = scale(decoder.loss(hidden, targets, 0), static_cast<double>(targets.numel() - ignored));
      loss += total.value().item();
      backward(total);
    });
    decoder.visit([&](const std::string& name, Var& parameter) { grads[name] = parameter.grad(); });
  }
};

TEST(Packed, documents_give_the_loss_and_the_gradients_of_each_alone) {
  const std::vector<int64_t> of_one(40, 1);
  const Batch batch({{40}, {39, 1}, {1, 38}, of_one, {3, 1, 1, 20, 7}, {17, 2, 21}}, 40);
  for (const auto& named : decoders()) {
    const std::string& name = named.first;
    const std::shared_ptr<Decoder>& decoder = named.second;
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
      decoder->visit(
          [&](const std::string&, Var& parameter) { parameter = Var(parameter.value().to(dtype), true); });
      // a norm of the few weights of a first token magnifies the rounding of f32
      const double tolerance = dtype == Dtype::f32 ? 1e-3 : 1e-10;
      const Sum packed(*decoder, [&](const Sum::Add& add) {
        add(decoder->hidden(batch.tokens, nullptr, batch.lengths, batch.cuts), batch.targets);
      });
      const Sum apart(*decoder, [&](const Sum::Add& add) {
        for (size_t b = 0; b < batch.cuts.size(); b++) {
          std::vector<int64_t> ends = batch.cuts[b];
          ends.push_back(batch.lengths[b]);
          int64_t begin = 0;
          for (int64_t end : ends) {
            const auto document = [&](const Tensor& x) {
              return steps(x, begin, end, static_cast<int64_t>(b));
            };
            add(decoder->hidden(document(batch.tokens)), document(batch.targets));
            begin = end;
          }
        }
      });
      EXPECT_NEAR(packed.loss, apart.loss, tolerance * apart.loss) << name;
      for (const auto& [parameter, grad] : packed.grads) {
        EXPECT_LE(difference(grad, apart.grads.at(parameter)).normalised, tolerance)
            << name << ", " << parameter << " in " << supra::name(dtype);
      }
    }
  }
}

// A state goes on into the first document and comes from the last one.
TEST(Packed, documents_go_on_from_a_state_and_leave_one) {
  const NoGrad no_grad;
  const Batch batch({{6, 5, 9}, {11, 1, 8}, {20}}, 20);
  const Cuts cuts = {{2, 7}, {7, 8}, {}};
  for (const auto& [name, decoder] : decoders()) {
    const Tensor whole = decoder->hidden(batch.tokens, nullptr, {}, batch.cuts).value();
    State state = decoder->init_state(3);
    decoder->hidden(steps(batch.tokens, 0, 4), &state);
    // padding of three columns
    const Tensor middle = decoder->hidden(steps(batch.tokens, 4, 20), &state, {13, 13, 13}, cuts).value();
    EXPECT_EQ(state.positions, (std::vector<int64_t>{6, 5, 17})) << name;
    expect_close(steps(middle, 0, 13), steps(whole, 4, 17), name);
    for (int64_t t = 17; t < 20; t++) {
      const Tensor step = decoder->hidden(steps(batch.tokens, t, t + 1), &state).value();
      expect_close(step, steps(whole, t, t + 1), format("%s, step %ld", name.c_str(), static_cast<long>(t)));
    }
  }
}

TEST(Packed, cuts_that_cannot_be_are_refused) {
  const Batch batch({{6, 2}, {8}}, 8);
  for (const auto& [name, decoder] : decoders()) {
    for (const Cuts& cuts : {Cuts{{0}, {}}, {{8}, {}}, {{3, 3}, {}}, {{5, 3}, {}}, {{}, {7}}, {{1}}, {{}, {}, {}}}) {
      EXPECT_THROW(decoder->hidden(batch.tokens, nullptr, {8, 7}, cuts), Error) << name;
    }
    EXPECT_NO_THROW(decoder->hidden(batch.tokens, nullptr, {8, 7}, {{}, {6}})) << name;
  }
}

}  // namespace
}  // namespace supra
