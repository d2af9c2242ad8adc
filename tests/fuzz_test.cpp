#include <gtest/gtest.h>

#include <chrono>

#include "supra/model.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/parsers.h"
#include "tests/fuzz_formats.h"
#include "tests/support.h"

// What make fuzz runs for minutes, for a moment; what it has found; and golden models that were damaged.

namespace supra {
namespace {

TEST(Fuzz, EveryParserTakesItsSeedsAndSurvivesWhatBecomesOfThem) {
  Philox random(1);
  for (const Parser& parser : parsers()) {
    SCOPED_TRACE(parser.name);
    for (const std::string& seed : parser.seeds) EXPECT_EQ(parser.complaint(seed), "");
    for (int i = 0; i < 200; i++) parser.complaint(mutate(parser.seeds, random));
  }
}

// Opens the model of a folder: an error about something in it, or a model, soon, and with no more memory than
// the file's size and 64 MB.
void expect_survived(const Path& folder, size_t size) {
  reset_peak();
  const size_t before = memory_stats().current;
  const auto begin = std::chrono::steady_clock::now();
  const std::string complaint = complaint_of([&] { load_model(folder, "", Weights::stored); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_LE(memory_stats().peak - before, size + (64 << 20));
}

// Every golden model with each of its files cut at 200 places, and with 200 bytes of its header changed one
// after the other.
TEST(Fuzz, GoldenModelsSurviveAbuse) {
  Philox random(2);
  for (const char* set : {"golden/hf", "golden/hf2", "golden/openlm"}) {
    SKIP_WITHOUT(shared_dir() / set);
    for (const auto& golden : std::filesystem::directory_iterator(shared_dir() / set)) {
      if (!golden.is_directory()) continue;
      const TempDir folder;
      std::filesystem::copy(golden.path(), folder.path());
      std::filesystem::remove(folder.path() / "golden.safetensors");
      for (const auto& entry : std::filesystem::directory_iterator(golden.path())) {
        const Path file = folder.path() / entry.path().filename();
        if (!exists(file)) continue;
        SCOPED_TRACE(entry.path());
        const std::string bytes = read_file(entry.path());
        std::fstream damaged(file, std::ios::in | std::ios::out | std::ios::binary);
        for (int i = 0; i < 200; i++) {
          const size_t place = random.below(std::min<size_t>(bytes.size(), 4096));
          damaged.seekp(place).put(static_cast<char>(bytes[place] ^ (1 + random.below(255)))).flush();
          expect_survived(folder.path(), bytes.size());
          damaged.seekp(place).put(bytes[place]).flush();
        }
        for (size_t i = 200; i-- > 0;) {
          std::filesystem::resize_file(file, bytes.size() * i / 200);
          expect_survived(folder.path(), bytes.size());
        }
        write_bytes(file, bytes);
      }
    }
  }
}

}  // namespace
}  // namespace supra
