#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "supra/formats/file.h"
#include "tests/support.h"
#include "tools/bench/bench.h"
#include "tools/command.h"

// supra/READING.md quotes the code, supra/CONTRIBUTING.md names files. Both stay true: whoever changes a line that is quoted,
// a name, a flag or a test learns here which page says otherwise.

namespace supra {
namespace {

constexpr const char* kReading = "supra/READING.md";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string trimmed(const std::string& line) {
  const size_t begin = line.find_first_not_of(' '), end = line.find_last_not_of(' ');
  return begin == std::string::npos ? "" : line.substr(begin, end - begin + 1);
}

// A block between ``` lines, and the file and the function that were named last before it.
struct Block {
  std::string language, file, function;
  std::vector<std::string> lines;
  size_t at;  // its first line in the page
};

std::vector<Block> blocks_of(const std::string& page) {
  static const std::regex place("^`([a-z0-9_/.]+\\.(?:cpp|h|cu))`, `([A-Za-z_:]+)`.*");
  std::vector<Block> blocks;
  std::string file, function;
  const std::vector<std::string> lines = lines_of(page);
  for (size_t i = 0; i < lines.size(); i++) {
    std::smatch match;
    if (std::regex_match(lines[i], match, place)) file = match[1], function = match[2];
    if (!lines[i].starts_with("```")) continue;
    Block block = {lines[i].substr(3), file, function, {}, i + 2};
    for (i++; i < lines.size() && lines[i] != "```"; i++) block.lines.push_back(lines[i]);
    blocks.push_back(block);
  }
  return blocks;
}

std::string help_of(const std::string& command) {
  static const std::map<std::string, int (*)(Args&)> commands = {
#define SUPRA_ENTRY(name, summary) {#name, run_##name},
      SUPRA_COMMANDS(SUPRA_ENTRY, SUPRA_ENTRY)
#undef SUPRA_ENTRY
  };
  const auto found = commands.find(command);
  if (found == commands.end()) return "";
  Args args(command, "", {"--help"});
  try {
    found->second(args);
  } catch (const HelpWanted&) {
    return args.help();
  }
  return "";
}

// Names of all tests, as --gtest_filter sees them.
std::set<std::string> test_names() {
  std::set<std::string> names;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); i++) {
    const testing::TestSuite& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); j++) names.insert(std::string(suite.name()) + "." + suite.GetTestInfo(j)->name());
  }
  return names;
}

bool matches(const std::string& pattern, const std::string& name) {
  std::string expression;
  for (const char c : pattern) expression += c == '*' ? ".*" : c == '.' ? "\\." : std::string(1, c);
  return std::regex_match(name, std::regex(expression));
}

void check_make(const std::string& line) {
  static const std::regex filter("make test FILTER='([^']+)'");
  std::smatch match;
  ASSERT_TRUE(std::regex_match(line, match, filter)) << line;
  std::istringstream patterns(match[1]);
  for (std::string pattern; std::getline(patterns, pattern, ':');) {
    bool found = false;
    for (const std::string& name : test_names()) found = found || matches(pattern, name);
    EXPECT_TRUE(found) << "no test is called " << pattern;
  }
}

void check_command(const std::string& line) {
  std::istringstream words(line);
  std::string program, command;
  words >> program >> command;
  EXPECT_EQ(program, "build/release/supra");
  const std::string help = help_of(command);
  ASSERT_NE(help, "") << "no command is called " << command;
  std::set<std::string> rows;
  for (const BenchJob& job : kernel_jobs({})) rows.insert(job.rows.begin(), job.rows.end());
  for (std::string word; words >> word;) {
    if (word[0] == '"') {
      while (word.back() != '"' && words >> word) continue;
    } else if (word[0] == '-') {
      EXPECT_NE((help + "\n").find(word + (word[1] == '-' ? " " : "")), std::string::npos) << command << " has no " << word;
    } else if (command == "bench" && word != "kernels") {
      const bool found = std::any_of(rows.begin(), rows.end(), [&](const std::string& row) { return row.find(word) != std::string::npos; });
      EXPECT_TRUE(found) << "no row of bench is called " << word;
    }
  }
}

TEST(Reading, QuotesTheCode) {
  int steps = 0;
  for (const Block& block : blocks_of(read_file(kReading))) {
    if (block.language != "cpp") continue;
    steps++;
    ASSERT_TRUE(exists(Path(block.file))) << kReading << ":" << block.at << " names " << block.file;
    std::vector<std::string> code = lines_of(read_file(block.file));
    for (std::string& line : code) line = trimmed(line);
    const std::string name = block.function.substr(block.function.rfind(':') + 1);
    EXPECT_TRUE(std::any_of(code.begin(), code.end(), [&](const std::string& line) { return line.find(name + "(") != std::string::npos; }))
        << block.file << " has no " << block.function;
    // the lines stand there one below the other
    std::vector<std::string> quoted;
    for (const std::string& line : block.lines) quoted.push_back(trimmed(line));
    EXPECT_NE(std::search(code.begin(), code.end(), quoted.begin(), quoted.end()), code.end())
        << kReading << ":" << block.at << ": " << block.file << " does not have these lines any more:\n"
        << quoted[0];
  }
  EXPECT_GE(steps, 12);
}

TEST(Reading, NamesCommandsFlagsRowsAndTests) {
  int commands = 0;
  for (const Block& block : blocks_of(read_file(kReading))) {
    if (block.language != "sh") continue;
    for (const std::string& line : block.lines) {
      SCOPED_TRACE(testing::Message() << kReading << ": " << line);
      commands++;
      line.starts_with("make ") ? check_make(line) : check_command(line);
    }
  }
  EXPECT_GE(commands, 12);
}

// Paths are written from the root of the repository: `nn/config.h`.
TEST(Reading, NamesFilesThatExist) {
  static const std::regex path("`((?:tensor|autograd|kernels|nn|supra|tools|tests)/[A-Za-z0-9_/.]+)`");
  for (const char* page : {kReading, "supra/CONTRIBUTING.md"}) {
    const std::string text = read_file(page);
    for (std::sregex_iterator i(text.begin(), text.end(), path), end; i != end; i++) {
      EXPECT_TRUE(exists(Path((*i)[1].str()))) << page << " names " << (*i)[1];
    }
  }
}

TEST(Reading, PagesAreShort) {
  EXPECT_LE(lines_of(read_file(kReading)).size(), 400u);
  EXPECT_LE(lines_of(read_file("supra/CONTRIBUTING.md")).size(), 60u);
  EXPECT_LE(lines_of(read_file("README.md")).size(), 150u);
}

}  // namespace
}  // namespace supra
