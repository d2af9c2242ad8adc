#include "tensor/tensor.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "supra/formats/file.h"
#include "tensor/cores.h"
#include "tensor/recycle.h"
#include "tests/support.h"

// The ground floor: numbers, memory, threads, random bits and files.

namespace supra {

// The value of an f32 bit pattern, with no help of the processor's own floats, which may flush denormals.
static double value_of(uint32_t bits) {
  const uint32_t exponent = (bits >> 23) & 255, mantissa = bits & 0x7fffff;
  const double sign = bits >> 31 ? -1 : 1;
  if (exponent == 255) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -149);
  return sign * std::ldexp(mantissa | 0x800000, static_cast<int>(exponent) - 150);
}

static float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

static uint32_t bits_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  return bits;
}

// v rounded to nearest even among numbers of `digits` bits and exponents from `lowest` up; infinity from
// `limit` on.
static double rounded(double v, int digits, int lowest, double limit) {
  if (v == 0 || !std::isfinite(v)) return v;
  if (std::fabs(v) >= limit) return std::copysign(INFINITY, v);
  const int exponent = std::max(std::ilogb(v), lowest) - (digits - 1);
  return std::ldexp(std::nearbyint(std::ldexp(v, -exponent)), exponent);
}

TEST(Dtype, every_half_survives_the_way_to_f32_and_back) {
  for (uint32_t h = 0; h < 65536; h++) {
    const uint16_t half = static_cast<uint16_t>(h);
    const uint16_t f16 = f32_to_f16(f16_to_f32(half)), bf16 = f32_to_bf16(bf16_to_f32(half));
    const bool f16_nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff),
               bf16_nan = (h & 0x7f80) == 0x7f80 && (h & 0x7f);
    if (f16_nan)
      ASSERT_TRUE((f16 & 0x7c00) == 0x7c00 && (f16 & 0x3ff) && f16 >> 15 == h >> 15) << h;
    else
      ASSERT_EQ(f16, half);
    if (bf16_nan)
      ASSERT_TRUE((bf16 & 0x7f80) == 0x7f80 && (bf16 & 0x7f) && bf16 >> 15 == h >> 15) << h;
    else
      ASSERT_EQ(bf16, half);
  }
}

TEST(Dtype, halves_have_the_values_of_ieee_754) {
  EXPECT_EQ(f16_to_f32(0x3c00), 1.0f);
  EXPECT_EQ(f16_to_f32(0xc000), -2.0f);
  EXPECT_EQ(f16_to_f32(0x7bff), 65504.0f);
  EXPECT_EQ(f16_to_f32(0x0400), 0x1p-14f);
  EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24f);
  EXPECT_EQ(f16_to_f32(0xfc00), -INFINITY);
  EXPECT_EQ(bf16_to_f32(0x3f80), 1.0f);
  EXPECT_EQ(bf16_to_f32(0xff80), -INFINITY);
}

static void expect_rounding(uint32_t bits) {
  const double v = value_of(bits);
  const float f = float_of(bits);
  if (std::isnan(v)) return;
  ASSERT_EQ(value_of(bits_of(f16_to_f32(f32_to_f16(f)))), rounded(v, 11, -14, 65520)) << std::hex << bits;
  ASSERT_EQ(value_of(uint32_t{f32_to_bf16(f)} << 16), rounded(v, 8, -126, std::ldexp(511.0 / 256, 127)))
      << std::hex << bits;
}

TEST(Dtype, rounding_is_to_nearest_even) {
  // the middle between neighbours, and one step of f32 to either side
  for (uint32_t h = 0; h < 0x7c00; h++) {
    const float low = f16_to_f32(static_cast<uint16_t>(h)),
                high = h == 0x7bff ? 65536 : f16_to_f32(static_cast<uint16_t>(h + 1));
    const uint32_t middle = bits_of((low + high) / 2);
    for (uint32_t bits : {middle - 1, middle, middle + 1}) {
      expect_rounding(bits);
      expect_rounding(bits | 0x80000000);
    }
  }
  for (uint32_t h = 0; h < 0x7f80; h++) {
    for (uint32_t low : {0x7fffu, 0x8000u, 0x8001u}) expect_rounding(h << 16 | low);
  }
  Philox random(1);
  for (int i = 0; i < 300000; i++) expect_rounding(random.next());
}

TEST(Dtype, any_dtype_converts_to_any) {
  const Dtype all[] = {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::i64,
                       Dtype::i32, Dtype::i16, Dtype::i8,  Dtype::u8};
  const Tensor source = Tensor::of<double>({0, 1, 2, 100, 127});
  for (Dtype from : all) {
    for (Dtype to : all) {
      const Tensor back = source.to(from).to(to).to(Dtype::f64);
      EXPECT_TRUE(same_bits(back, source)) << name(from) << " to " << name(to);
    }
  }
  EXPECT_EQ(Tensor::of<double>({-2.9}).to(Dtype::i32).item(), -2);
}

TEST(Tensor, views_share_memory_and_clones_do_not) {
  const Tensor t = Tensor::of<float>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {3, 4});
  const Tensor view = t.view({2, -1}), rows = t.rows(1, 3), clone = t.clone();
  EXPECT_EQ(view.shape(), (Shape{2, 6}));
  EXPECT_EQ(rows.shape(), (Shape{2, 4}));
  EXPECT_EQ(rows.data<float>()[0], 4);
  rows.fill(-1);
  EXPECT_EQ(view.data<float>()[4], -1);
  EXPECT_EQ(clone.data<float>()[4], 4);
  EXPECT_FALSE(t.unique());
  EXPECT_TRUE(clone.unique());
  EXPECT_EQ(t.rows(3, 3).numel(), 0);
  EXPECT_EQ(t.dim(-1), 4);
}

TEST(Tensor, mistakes_are_named) {
  const Tensor t = Tensor::zeros({3, 4});
  EXPECT_THROW(t.view({5, -1}), Error);
  EXPECT_THROW(t.view({-1, -1}), Error);
  EXPECT_THROW(t.view({13}), Error);
  EXPECT_THROW(t.rows(2, 4), Error);
  EXPECT_THROW(t.rows(2, 1), Error);
  EXPECT_THROW(t.rows(-1, 1), Error);
  EXPECT_THROW(Tensor::zeros({}).rows(0, 1), Error);
  EXPECT_THROW(t.dim(2), Error);
  EXPECT_THROW(t.item(), Error);
  EXPECT_THROW(t.data<double>(), Error);
  EXPECT_THROW(t.copy_from(Tensor::zeros({11})), Error);
  EXPECT_THROW(Tensor::of<float>({1, 2, 3}, {2}), Error);
  EXPECT_THROW(Tensor::empty({-1}), Error);
  EXPECT_THROW(Tensor::empty({int64_t{1} << 40, int64_t{1} << 40}), Error);
  EXPECT_THROW(Tensor::empty({int64_t{1} << 60}), Error);
}

TEST(Tensor, odd_shapes_work) {
  EXPECT_EQ(Tensor::full({}, 3).item(), 3);
  EXPECT_EQ(to_string({2, 63}), "(2, 63)");
  const Tensor none = Tensor::zeros({0, 5});
  EXPECT_EQ(none.numel(), 0);
  EXPECT_EQ(none.view({5, 0}).numel(), 0);
  EXPECT_EQ(none.clone().to(Dtype::f64).bytes(), 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(Tensor::empty({3}).raw()) % 64, 0u);
}

TEST(Memory, is_counted_and_poisoned) {
  const size_t before = memory_stats().current;
  reset_peak();
  {
    const Tensor t = Tensor::empty({1000});
    EXPECT_EQ(memory_stats().current - before, 4032u);
  }
  EXPECT_EQ(memory_stats().current, before);
  EXPECT_EQ(memory_stats().peak - before, 4032u);
  set_poison(true);
  const Tensor f32 = Tensor::empty({7}), f64 = Tensor::empty({7}, Dtype::f64);
  set_poison(false);
  for (int i = 0; i < 7; i++)
    EXPECT_TRUE(std::isnan(f32.data<float>()[i]) && std::isnan(f64.data<double>()[i]));
}

// The known answers that the authors of the paper ship with their code (Random123, kat_vectors, philox4x32
// 10).
TEST(Philox, gives_the_known_answers) {
  struct Known {
    uint32_t counter[4], key[2], answer[4];
  };
  const Known known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  auto joined = [](const uint32_t* word) { return uint64_t{word[1]} << 32 | word[0]; };
  for (const Known& k : known) {
    uint32_t block[4];
    philox_block(block, joined(k.counter), joined(k.counter + 2), joined(k.key));
    for (int i = 0; i < 4; i++) EXPECT_EQ(block[i], k.answer[i]);
  }
  Philox random(0);
  for (uint32_t expected : known[0].answer) EXPECT_EQ(random.next(), expected);
}

TEST(Philox, any_position_is_reached_at_once) {
  Philox random(5, 9);
  std::vector<uint32_t> first;
  for (int i = 0; i < 23; i++) first.push_back(random.next());
  for (uint64_t i : {22, 3, 4, 7, 8, 0}) {
    random.seek(i);
    EXPECT_EQ(random.next(), first[i]);
    EXPECT_EQ(random.position(), i + 1);
  }
  EXPECT_NE(Philox(5, 8).next(), first[0]);
  EXPECT_NE(Philox(6, 9).next(), first[0]);
}

TEST(Philox, distributions_are_what_they_say) {
  Philox random(3);
  const int n = 200000;
  double sum = 0, squares = 0, uniform = 0;
  int count[7] = {};
  for (int i = 0; i < n; i++) {
    const double x = random.normal(), u = random.uniform();
    ASSERT_TRUE(std::isfinite(x) && u >= 0 && u < 1);
    sum += x;
    squares += x * x;
    uniform += u;
    count[random.below(7)]++;
  }
  // five standard errors
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(uniform / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  for (int c : count) EXPECT_NEAR(c, n / 7.0, 5 * std::sqrt(n / 7.0));
  for (int i = 0; i < 10; i++) EXPECT_EQ(random.below(1), 0u);
}

// Runs with each thread count, and leaves the pool as it was.
template <class F>
static void with_threads(F f) {
  const int before = threads();
  for (int count : {1, 2, 3, 7}) {
    set_threads(count);
    EXPECT_EQ(threads(), count);
    f();
  }
  set_threads(before);
}

TEST(Shape, reads_like_a_vector) {
  static_assert(std::is_trivially_copyable_v<Shape>);
  Shape shape = {2, 3};
  shape.push_back(4);
  shape.insert(shape.begin(), 5);
  EXPECT_EQ(shape, (Shape{5, 2, 3, 4}));
  EXPECT_EQ(to_string(shape), "(5, 2, 3, 4)");
  EXPECT_EQ(Shape(shape.begin() + 1, shape.end()), (Shape{2, 3, 4}));
  shape.resize(2);
  EXPECT_EQ(shape, (Shape{5, 2}));
  EXPECT_NE(shape, (Shape{5, 3}));
  EXPECT_NE(shape, (Shape{5, 2, 0}));
  // what was cut off does not come back
  shape.resize(3);
  EXPECT_EQ(shape, (Shape{5, 2, 0}));
  EXPECT_EQ(numel({}), 1);
  EXPECT_EQ(numel({3, 0}), 0);
}

TEST(Shape, refuses_more_dimensions_than_it_has_room_for) {
  Shape most = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(most.size(), Shape::kMostDimensions);
  for (const auto& grow : {std::function([&] { most.push_back(9); }), std::function([&] { most.insert(most.begin(), 9); }),
                           std::function([&] { most.resize(9); }), std::function([&] { Shape{1, 2, 3, 4, 5, 6, 7, 8, 9}; })}) {
    try {
      grow();
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "a shape of 9 dimensions was requested, at most 8 are possible");
    }
    EXPECT_EQ(most, (Shape{1, 2, 3, 4, 5, 6, 7, 8}));
  }
}

TEST(Memory, that_was_freed_serves_the_next_of_its_size) {
  for (const size_t bytes : {size_t{64}, size_t{4096}, size_t{8} << 20}) {
    if (bytes < size_t{8} << 20 && !kKeepsSmallBlocks) continue;
    const Block first = take_block(bytes);
    give_back(first);
    const Block again = take_block(bytes);
    EXPECT_EQ(again.memory, first.memory) << bytes;
    give_back(again);
  }
}

// More small blocks than are kept, of sizes that change, are freed again.
TEST(Memory, of_small_blocks_is_kept_within_bounds) {
  const auto use = [](size_t bytes) {
    std::vector<Block> blocks;
    for (size_t taken = 0; taken < (size_t{3} << 20); taken += bytes) blocks.push_back(take_block(bytes));
    for (const Block& block : blocks) give_back(block);
  };
  const auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  use(640);
  const size_t before = in_use();
  for (size_t bytes = 1024; bytes < (1 << 17); bytes += 1024) use(bytes);
  EXPECT_LE(in_use(), before + (size_t{5} << 20));
}

TEST(Memory, of_a_tensor_is_one_block) {
  struct Count {
    int blocks = 0, most = 0;
  } count;
  const Memory memory = {[](void* user, size_t bytes, size_t alignment) {
                           Count& c = *static_cast<Count*>(user);
                           c.most = std::max(c.most, ++c.blocks);
                           return aligned_alloc(alignment, bytes);
                         },
                         [](void* user, void* block, size_t) {
                           static_cast<Count*>(user)->blocks--;
                           free(block);
                         },
                         &count};
  Tensor later;
  {
    const UseMemory use(&memory);
    Tensor t = Tensor::zeros({3, 5});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % 64, 0u);
    later = t.rows(1, 2);
    t = {};
    EXPECT_EQ(count.blocks, 1);
  }
  later = {};
  EXPECT_EQ(count.blocks, 0);
  EXPECT_EQ(count.most, 1);
}

TEST(ParallelFor, covers_every_index_once) {
  with_threads([] {
    for (int64_t n : {0, 1, 2, 3, 5, 8, 63, 1000}) {
      for (int64_t grain : {0, 1, 4, 1000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        parallel_for(n, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; i++) seen[static_cast<size_t>(i)]++;
        });
        for (const auto& count : seen) ASSERT_EQ(count, 1);
      }
    }
  });
}

TEST(ParallelFor, ranges_follow_from_sizes_alone) {
  with_threads([] {
    auto ranges = [] {
      std::vector<std::atomic<int64_t>> end_of(100);
      parallel_for(100, 3, [&](int64_t begin, int64_t end) { end_of[static_cast<size_t>(begin)] = end; });
      return std::vector<int64_t>(end_of.begin(), end_of.end());
    };
    const auto first = ranges();
    for (int i = 0; i < 20; i++) EXPECT_EQ(ranges(), first);
  });
}

// A thread that is held up keeps one part from being done, not its share of them.
TEST(ParallelFor, parts_go_to_whoever_is_free) {
  RestoreMachine restore;
  set_threads(2);
  std::atomic<int> others{0};
  parallel_for(8, 1, [&](int64_t begin, int64_t end) {
    ASSERT_EQ(end, begin + 1);
    if (begin > 0) {
      others++;
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    while (others < 7 && std::chrono::steady_clock::now() - start < std::chrono::seconds(20))
      std::this_thread::yield();
    EXPECT_EQ(others, 7);
  });
}

TEST(ParallelFor, nests) {
  with_threads([] {
    std::atomic<int64_t> sum = 0;
    parallel_for(10, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        parallel_for(100, 1, [&](int64_t b, int64_t e) { sum += e - b; });
      }
    });
    EXPECT_EQ(sum, 1000);
  });
}

TEST(ParallelFor, rethrows_and_goes_on) {
  with_threads([] {
    for (int round = 0; round < 20; round++) {
      EXPECT_THROW(parallel_for(100, 1,
                                [](int64_t begin, int64_t end) {
                                  if (begin <= 99 && 99 < end) fail("the last one fails");
                                }),
                   Error);
      std::atomic<int64_t> done = 0;
      parallel_for(100, 1, [&](int64_t begin, int64_t end) { done += end - begin; });
      EXPECT_EQ(done, 100);
    }
  });
}

TEST(ParallelFor, serves_several_threads_of_a_program) {
  const int before = threads();
  set_threads(3);
  std::vector<std::thread> callers;
  std::atomic<int64_t> done = 0;
  for (int caller = 0; caller < 3; caller++) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; round++) {
        parallel_for(64, 1, [&](int64_t begin, int64_t end) { done += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(done, 3 * 500 * 64);
  set_threads(before);
}

TEST(ParallelFor, flushes_denormals_in_every_thread) {
  const int before = threads();
  set_threads(1);
  set_threads(3);
  std::atomic<int> kept = 0;
  parallel_for(3, 1, [&](int64_t, int64_t) {
    volatile float tiny = 1e-38f;
    if (tiny * 0.01f != 0) kept++;
  });
  EXPECT_EQ(kept, 0);
  set_threads(before);
  EXPECT_THROW(set_threads(0), Error);
}

static int cores_with(const std::vector<std::pair<std::string, std::string>>& files) {
  const TempDir root;
  for (const auto& [name, text] : files) {
    std::filesystem::create_directories((root.path() / name).parent_path());
    write_file_atomically(root.path() / name, text);
  }
  return cgroup_cores(root.path());
}

// As docker run --cpus=2.5 and kubernetes write them.
TEST(Cores, a_containers_quota_is_rounded_up) {
  const std::string groups = "proc/self/cgroup", top = "sys/fs/cgroup/";
  EXPECT_EQ(cores_with({}), 0);
  EXPECT_EQ(cores_with({{groups, "0::/\n"}, {top + "cpu.max", "250000 100000\n"}}), 3);
  EXPECT_EQ(cores_with({{groups, "0::/\n"}, {top + "cpu.max", "max 100000\n"}}), 0);
  EXPECT_EQ(cores_with({{groups, "0::/\n"}, {top + "cpu.max", "200000\n"}}), 0);
  EXPECT_EQ(cores_with({{groups, "0::/\n"}, {top + "cpu.max", "1000 100000\n"}}), 1);
  // the host's path, seen from within
  EXPECT_EQ(cores_with({{groups, "0::/docker/5f3a\n"}, {top + "cpu.max", "200000 100000\n"}}), 2);
  // the least of a group and those above it
  for (const auto& [above, below] : {std::pair{"400000 100000\n", "max 100000\n"},
                                     {"max 100000\n", "400000 100000\n"},
                                     {"800000 100000\n", "200000 50000\n"}})
    EXPECT_EQ(cores_with({{groups, "0::/a.slice/b.scope\n"},
                          {top + "a.slice/cpu.max", above},
                          {top + "a.slice/b.scope/cpu.max", below}}),
              4);
  // version 1, where most groups are of no interest
  const std::string v1 = "5:memory:/m\n4:cpu,cpuacct:/docker/5f3a\n1:name=systemd:/s\n";
  const std::string group = top + "cpu,cpuacct/docker/5f3a/";
  EXPECT_EQ(cores_with({{groups, v1},
                        {group + "cpu.cfs_quota_us", "150000\n"},
                        {group + "cpu.cfs_period_us", "100000\n"}}),
            2);
  EXPECT_EQ(
      cores_with(
          {{groups, v1}, {group + "cpu.cfs_quota_us", "-1\n"}, {group + "cpu.cfs_period_us", "100000\n"}}),
      0);
  // another order of the controllers, behind groups with names of any length
  const std::string old = "5:memory:/" + std::string(5000, 'm') + "\n4:cpuacct,cpu:/s\n";
  for (const char* mount : {"cpu,cpuacct", "cpuacct,cpu", "cpu"})
    EXPECT_EQ(cores_with({{groups, old},
                          {top + mount + "/s/cpu.cfs_quota_us", "200000\n"},
                          {top + mount + "/s/cpu.cfs_period_us", "100000\n"}}),
              2)
        << mount;
}

TEST(Cores, are_not_more_than_the_quota_or_the_affinity) {
  const int quota = cgroup_cores(), usable = usable_cores().count;
  EXPECT_GE(usable, 1);
  EXPECT_LE(usable, quota > 0 ? quota : usable);
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  EXPECT_LE(usable, CPU_COUNT(&all));
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cores().count, 1);
  sched_setaffinity(0, sizeof all, &all);
}

static std::vector<std::string> names_in(const Path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(File, atomic_writing_replaces_or_leaves_alone) {
  const TempDir dir;
  const Path file = dir.path() / "a.txt";
  write_file_atomically(file, "old");
  EXPECT_EQ(read_file(file), "old");
  write_file_atomically(file, "");
  EXPECT_EQ(read_file(file), "");
  EXPECT_THROW(write_file_atomically(dir.path() / "missing" / "b.txt", "x"), Error);
  std::filesystem::create_directories(dir.path() / "d" / "e");
  EXPECT_THROW(write_file_atomically(dir.path() / "d", "x"), Error);
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"a.txt", "d"}));
}

TEST(File, a_writer_that_does_not_finish_leaves_nothing) {
  const TempDir dir;
  {
    FileWriter out(dir.path() / "half");
    out.write(std::string(3 << 20, 'x'));
  }
  EXPECT_TRUE(names_in(dir.path()).empty());
  FileWriter out(dir.path() / "whole");
  out.write(std::string(3 << 20, 'x'));
  out.write("y");
  out.finish();
  const MappedFile file(dir.path() / "whole");
  EXPECT_EQ(file.size(), (3u << 20) + 1);
  EXPECT_EQ(file.text().back(), 'y');
}

TEST(File, reading_names_what_is_wrong) {
  const TempDir dir;
  try {
    MappedFile(dir.path() / "nowhere");
    FAIL() << "no file, no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nowhere"), std::string::npos);
  }
  EXPECT_THROW(MappedFile(dir.path()), Error);
}

TEST(NewDirectory, is_complete_or_absent) {
  const TempDir dir;
  const Path target = dir.path() / "deep" / "step-1";
  {
    const NewDirectory abandoned(target);
    write_file_atomically(abandoned.path() / "weights", "half");
  }
  EXPECT_FALSE(std::filesystem::exists(target));
  for (const char* text : {"first", "second"}) {
    // a trailing slash names the same directory
    NewDirectory fresh(target / "");
    std::filesystem::create_directory(fresh.path() / "inner");
    write_file_atomically(fresh.path() / "inner" / "weights", text);
    fresh.commit();
    EXPECT_EQ(read_file(target / "inner" / "weights"), text);
  }
  {
    const NewDirectory abandoned(target);
    write_file_atomically(abandoned.path() / "weights", "half");
  }
  EXPECT_EQ(read_file(target / "inner" / "weights"), "second");
  EXPECT_EQ(names_in(target.parent_path()), (std::vector<std::string>{"step-1"}));
}

TEST(NewDirectory, clears_what_a_killed_run_left) {
  const TempDir dir;
  std::filesystem::create_directory(dir.path() / ".tmp-out");
  write_file_atomically(dir.path() / ".tmp-out" / "old", "x");
  NewDirectory fresh(dir.path() / "out");
  EXPECT_TRUE(names_in(fresh.path()).empty());
  fresh.commit();
  write_file_atomically(dir.path() / "file", "x");
  EXPECT_THROW(NewDirectory(dir.path() / "file"), Error);
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"file", "out"}));
}

// Where two names cannot be swapped, the process may die when the old directory was moved aside and the new one is not there.
TEST(NewDirectory, that_died_in_commit_lost_nothing) {
  const TempDir dir;
  const auto die = [&] {
    for (const char* name : {".tmp-out", ".tmp-out.old"}) {
      std::filesystem::create_directory(dir.path() / name);
      write_file_atomically(dir.path() / name / "file", name);
    }
  };
  die();
  NewDirectory(dir.path() / "out");
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"out"}));
  EXPECT_EQ(MappedFile(dir.path() / "out/file").text(), ".tmp-out.old");
  // the old one is no use beside what replaced it
  write_file_atomically(dir.path() / "out/file", "new");
  die();
  NewDirectory(dir.path() / "out");
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"out"}));
  EXPECT_EQ(MappedFile(dir.path() / "out/file").text(), "new");
}

}  // namespace supra
