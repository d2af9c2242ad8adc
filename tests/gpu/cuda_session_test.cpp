#include "supra/inference/session.h"
#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"

// A session whose model is on the GPU: logits and files are what they are on the CPU.

namespace supra {
namespace {

struct Place {
  Device device;
  Dtype activations;
};
constexpr Place kCpu = {Device::cpu, Dtype::f32};

std::shared_ptr<Decoder> decoder_at(MixerKind mixer, Place place) {
  const auto decoder = stirred_decoder(tiny_config(mixer));
  decoder->to(place.device, place.activations);
  return decoder;
}

// Ragged prompts, a step, the state to a file, a step.
Results logits_of(const Decoder& decoder, const Path& file) {
  Session session(decoder, 2);
  Results all = {session.feed({{1, 2, 3, 4, 5}, {6, 7}})};
  all.push_back(session.feed({{}, {8, 9}}));
  all.push_back(session.step(std::vector<int32_t>{10, 11}));
  session.save(file);
  all.push_back(session.step(std::vector<int32_t>{12, 13}));
  return all;
}

}  // namespace

TEST_F(Cuda, a_session_goes_on_wherever_it_was_saved) {
  const TempDir directory;
  const Path from_cpu = directory.path() / "cpu", from_gpu = directory.path() / "gpu";
  for (MixerKind mixer : {MixerKind::softmax, MixerKind::supra, MixerKind::delta, MixerKind::window}) {
    const auto here = decoder_at(mixer, kCpu);
    const Results truth = logits_of(*here, from_cpu);
    for (Dtype activations : {Dtype::f32, Dtype::bf16}) {
      SCOPED_TRACE(format("mixer %d, %s", static_cast<int>(mixer), name(activations)));
      const double bound = activations == Dtype::f32 ? 1e-4 : 0.06;
      const auto there = decoder_at(mixer, {Device::cuda, activations});
      const Results got = logits_of(*there, from_gpu);
      for (size_t i = 0; i < truth.size(); i++) {
        EXPECT_EQ(got[i].dtype(), Dtype::f32);
        EXPECT_LE(difference(got[i], truth[i]).normalised, bound) << i;
      }
      const auto last_of = [](const Decoder& decoder, const Path& file) {
        Session session(decoder, 2);
        session.load(file);
        return session.step(std::vector<int32_t>{12, 13});
      };
      EXPECT_TRUE(same_bits(last_of(*there, from_gpu), got.back()));
      EXPECT_LE(difference(last_of(*there, from_cpu), truth.back()).normalised, bound);
      EXPECT_LE(difference(last_of(*here, from_gpu), truth.back()).normalised, bound);
    }
  }
}

}  // namespace supra
