#pragma once
#include "kernels/products.h"
#include "supra/model.h"
#include "tensor/cuda.h"
#include "tools/args.h"

namespace supra {

// Why this program cannot use a GPU, and what the user can do; empty if it can use one.
inline std::string why_no_gpu() {
#if defined(SUPRA_INFERENCE)
  return "this program is for the CPU alone (make cuda builds one for GPUs from the source)";
#else
  return cuda::why_not();
#endif
}

// The flags of every command that runs a model: the device and the precision. Call check() after args.parse(), before
// anything is loaded.
struct DeviceFlags {
  Device device = Device::cpu;
  Dtype activations = Dtype::bf16;
  const Flag* given = nullptr;
#if !defined(SUPRA_INFERENCE)
  Products products = Products::f32;
  const Flag* products_given = nullptr;
#endif

  // `fast`: for commands that train. Without --products and SUPRA_PRODUCTS they use the fastest products; others use f32.
  void declare(Args& args, [[maybe_unused]] bool fast = false) {
    args.choice(&device, "--device", {{"cpu", Device::cpu}, {"cuda", Device::cuda}},
                "device to compute on; cuda: an NVIDIA GPU");
    given = &args.choice(&activations, "--activations", {{"bf16", Dtype::bf16}, {"f32", Dtype::f32}},
                         "type of activations on the GPU; the CPU uses f32");
#if !defined(SUPRA_INFERENCE)
    products = fast && !products_asked_for() ? fastest_products() : supra::products();
    products_given = &args.choice(&products, "--products", {{"f32", Products::f32}, {"bf16x3", Products::bf16x3}, {"bf16", Products::bf16}},
                                  "precision of the factors of CPU matrix products: f32: not rounded; bf16x3: split into two bf16 "
                                  "numbers; bf16: rounded to 8 bits. Sums and everything else are f32");
#endif
  }
  void check(const Args& args) {
    if (device == Device::cuda) {
      const std::string reason = why_no_gpu();
      CHECK(reason.empty(),
            "no GPU can be used: %s; supra doctor shows the devices, --device cpu uses the CPU",
            reason.c_str());
#if !defined(SUPRA_INFERENCE)
      if (products_given->given()) args.misused("--products is for --device cpu; on a GPU use --activations");
#endif
      return;
    }
    if (given->given() && activations != Dtype::f32)
      args.misused("--activations %s is for --device cuda, the CPU computes in f32", name(activations));
    activations = Dtype::f32;
#if !defined(SUPRA_INFERENCE)
    set_products(products);
#endif
  }
  // Moves a model that will be trained or saved.
  void move(Decoder& decoder) const {
    if (device != Device::cpu) fitting([&] { decoder.to(device, activations); });
  }
  // Moves a model that only runs.
  void place(Decoder& decoder) const {
    if (device != Device::cpu) fitting([&] { place_for_inference(decoder, device, activations); });
  }

 private:
  // There is no batch or sequence yet, so the usual advice would not help.
  template <class F>
  static void fitting(F f) {
    try {
      f();
    } catch (const OutOfMemory& error) {
      fail("the weights do not fit: %s; supra quantize makes smaller ones, --device cpu uses the CPU", error.what());
    }
  }
};

}  // namespace supra
