#include <gtest/gtest.h>

#include <cstring>
#include <sstream>

#include "supra/formats/model_source.h"
#include "tests/support.h"
#include "tests/tiny_model.h"
#include "tools/command.h"
#include "tools/plot/png.h"
#include "tools/demo/story_grammar.h"

namespace supra {
namespace {

// supra lab with a teacher of a few thousand parameters that knows nothing, on stories of the grammar, as on a machine without any other text.
class LabTest : public testing::Test {
 protected:
  LabTest() {
    Config config = tiny_config(MixerKind::softmax);
    config.context = 256;
    write_file_atomically(dir_.path() / "tok.bin", story_vocabulary());
    Model model;
    model.tokenizer = load_tokenizer(dir_.path() / "tok.bin");
    config.vocab = model.tokenizer->size();
    model.decoder = make_decoder(config);
    model.decoder->init_weights(1);
    save_model(model, dir_.path() / "teacher");
    setenv("SUPRA_SHARED", "/absent", 1);
  }
  ~LabTest() override { shared_.empty() ? unsetenv("SUPRA_SHARED") : setenv("SUPRA_SHARED", shared_.c_str(), 1); }

  void run(std::vector<std::string> words) {
    words.insert(words.end(), {"--teacher", dir_.path() / "teacher", "-o", out_, "--tokens", "8192"});
    Args args("lab", "", std::move(words));
    EXPECT_EQ(run_lab(args), 0);
  }

  std::string table(const std::vector<std::string>& words) {
    testing::internal::CaptureStdout();
    std::string error;
    try {
      run(words);
    } catch (const Error& e) {
      error = e.what();
    }
    const std::string printed = testing::internal::GetCapturedStdout();
    EXPECT_EQ(error, "") << printed;
    return printed;
  }

  const std::string shared_ = getenv("SUPRA_SHARED") ? getenv("SUPRA_SHARED") : "";
  TempDir dir_;
  Path out_ = dir_.path() / "out";
};

std::vector<std::vector<std::string>> read_csv(const Path& path) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) {
    std::istringstream fields(line);
    rows.emplace_back();
    for (std::string field; std::getline(fields, field, ',');) rows.back().push_back(field);
  }
  return rows;
}

TEST_F(LabTest, EveryStudentHasItsRowItsLogAndItsLine) {
  const std::string text = table({});
  const auto rows = read_csv(out_ / "lab.csv");
  const std::vector<std::string> names = {"student", "teacher", "calibrated", "window",
                                          "supra", "transfer", "distill", "gated-distill", "delta-distill", "wide-gated-distill"};
  ASSERT_EQ(rows.size(), names.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i][0], names[i]);
    EXPECT_NE(text.find("\n" + names[i] + " "), std::string::npos) << text;
    // no story of the grammar repeats a word behind 128 tokens: the last field is empty
    ASSERT_EQ(rows[i].size(), i == 0 ? 10u : 9u);
    for (size_t c = 1; i > 0 && c < 9; ++c) {
      size_t end = 0;
      EXPECT_TRUE(std::isfinite(std::stod(rows[i][c], &end)));
      EXPECT_EQ(end, rows[i][c].size()) << rows[i][c];
    }
    if (i < 4) continue;  // neither of the first two students is trained
    EXPECT_EQ(rows[i][2], "8192");
    EXPECT_TRUE(std::filesystem::exists(out_ / names[i] / "config.json"));
    EXPECT_EQ(read_csv(out_ / (names[i] + ".csv")).size(), 9u) << "eight steps and the names of the columns";
  }
  if (why_no_png().empty()) EXPECT_EQ(read_file(out_ / "lab.png").substr(1, 3), "PNG");
  else EXPECT_NE(text.find("no lab.png: " + why_no_png()), std::string::npos) << text;
}

TEST_F(LabTest, StudentsAreChosenAndTheirSeedsHaveAMean) {
  const std::string text = table({"--students", "calibrated", "supra", "--seeds", "2"});
  const auto rows = read_csv(out_ / "lab.csv");
  ASSERT_EQ(rows.size(), 6u);
  double mean = 0;
  for (size_t i : {4, 5}) {
    EXPECT_EQ(rows[i][0] + rows[i][1], "supra" + std::to_string(i - 4));
    mean += std::stod(rows[i][5]) / 2;
  }
  EXPECT_NE(rows[4][5], rows[5][5]) << "two seeds, two students";
  const size_t at = text.find("supra                mean");
  ASSERT_NE(at, std::string::npos) << text;
  EXPECT_NE(text.substr(at, text.find('\n', at) - at).find(format("%.4f ", mean)), std::string::npos) << text;
  EXPECT_THROW(run({"--students", "distil"}), UsageError);
}

// Students of new weights alone keep the teacher's; those of two steps learn them first, and then everything.
TEST_F(LabTest, ThePapersSwitchesTrainWhatTheySay) {
  table({"--students", "new-weights", "two-steps", "t2r"});
  const auto weights = [](const Path& path) {
    const Model model = load_model(path);
    Tensor found;
    model.decoder->visit([&](const std::string& name, Var& parameter) {
      if (name == "tok_embeddings.weight") found = parameter.value();
    });
    return found;
  };
  const Tensor teacher = weights(dir_.path() / "teacher");
  const auto same = [&](const Tensor& t) { return memcmp(t.data<float>(), teacher.data<float>(), teacher.bytes()) == 0; };
  EXPECT_TRUE(same(weights(out_ / "new-weights")));
  EXPECT_TRUE(same(weights(out_ / "two-steps-first")));
  EXPECT_FALSE(same(weights(out_ / "two-steps")));
  EXPECT_NEAR(std::stod(read_csv(out_ / "lab.csv")[3][2]), 8192, 1024) << "both steps together";
  const Config config = open_model(out_ / "t2r").config;
  EXPECT_EQ(config.output_norm, OutputNorm::denominator);
  EXPECT_EQ(config.decay.kind, DecayConfig::Kind::none);
}

// A study has the students in one table with their teacher, and only those that its time is enough for.
TEST_F(LabTest, AStudyComparesWhatItHasTimeFor) {
  const std::string all = table({"--study", "--students", "calibrated", "supra"});
  const std::string report = read_file(out_ / "compare/compare.md");
  for (const char* name : {"teacher", "calibrated", "supra", "nats a token", "bytes a session"}) {
    EXPECT_NE(report.find(name), std::string::npos) << report;
    EXPECT_NE(all.find(name), std::string::npos) << all;
  }
  std::filesystem::remove_all(out_);
  table({"--study", "--students", "calibrated", "supra", "--budget", "0.01s"});
  EXPECT_EQ(read_csv(out_ / "lab.csv").size(), 3u) << "the first student is always made";
  EXPECT_EQ(read_file(out_ / "compare/compare.md").find("supra"), std::string::npos);
  EXPECT_THROW(run({"--budget", "soon"}), UsageError);
}

// A folder of the user may hold a train.txt, or a model named supra.
TEST_F(LabTest, WritesIntoItsOwnFolderAlone) {
  std::filesystem::create_directories(out_);
  write_file_atomically(out_ / "train.txt", "mine");
  EXPECT_THROW(run({"--students", "calibrated"}), Error);
  EXPECT_EQ(read_file(out_ / "train.txt"), "mine");
  std::filesystem::remove(out_ / "train.txt");
  for (int again = 0; again < 2; again++) table({"--students", "calibrated"});
}

}  // namespace
}  // namespace supra
