#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>

#include "tests/supra/embed/embed_model.h"
#include "tests/small_files.h"

// The library as hosts get it: `make install` into a folder beside this program, and what people build on that.

namespace supra {
namespace {

struct Said {
  int code;
  std::string text;  // stdout and stderr
};

Said shell(const std::string& command) {
  Said said;
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  char part[4096];
  while (const size_t bytes = fread(part, 1, sizeof part, pipe)) said.text.append(part, bytes);
  said.code = WEXITSTATUS(pclose(pipe));
  return said;
}

class InstalledTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!exists(installed_ / "lib/libsupra.a")) GTEST_SKIP() << installed_ << " is not there (make test installs it)";
    write_tiny_model(model_);
  }
  // What a command says that must end well.
  std::string run(const std::string& command) {
    const Said said = shell(command);
    EXPECT_EQ(said.code, 0) << command << "\n" << said.text;
    return said.text;
  }
  std::string build(const std::string& compiler, const std::string& source, const std::string& library) {
    const std::string program = dir_.path() / "program";
    EXPECT_EQ(run(compiler + " -O2 -Wall -Wextra -pedantic -Werror -I" + installed_.string() + "/include " + source +
                  " " + library + " -lm -o " + program),
              "");
    return program;
  }

  const Path installed_ = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "installed";
  const Path build_ = installed_.parent_path().parent_path();
  const std::string archive_ = installed_ / "lib/libsupra.a";
  const std::string shared_ = "-L" + (installed_ / "lib").string() + " -Wl,-rpath," + (installed_ / "lib").string() + " -lsupra";
  TempDir dir_;
  const std::string model_ = dir_.path() / "model.supra";
};

// As supra/embed/README.md prints it, linked as C: there is no C++ library.
TEST_F(InstalledTest, TheCExampleStreamsAStory) {
  const std::string readme = read_file("supra/embed/README.md"), opening = "```c\n";
  const size_t begin = readme.find(opening) + opening.size();
  const std::string printed = readme.substr(begin, readme.find("```", begin) - begin);
  EXPECT_EQ(printed, read_file("tests/embed/story.c"));
  const std::string source = dir_.path() / "printed.c";
  write_file_atomically(source, printed);
  std::string first;
  for (const std::string& library : {archive_, shared_, "-static " + archive_}) {
    const std::string program = build("cc -std=c11", source, library);
    const std::string text = run(program + " " + model_ + " Once");
    EXPECT_GT(text.size(), 20u);
    if (first.empty()) first = text;
    EXPECT_EQ(text, first);
    const Said refused = shell(program + " " + archive_ + " Once");
    EXPECT_EQ(refused.code, SUPRA_BAD_MODEL);
    EXPECT_NE(refused.text.find("libsupra.a"), std::string::npos) << refused.text;
  }
  if (shell("pkg-config --version").code != 0) return;
  const std::string flags =
      run("PKG_CONFIG_PATH=" + (installed_ / "lib/pkgconfig").string() + " pkg-config --cflags --libs --static supra");
  EXPECT_NE(flags.find("-lsupra"), std::string::npos) << flags;
}

// The same, told to go on for long with rings of 16 bits and far states: the process is as large at the end as it was early.
TEST_F(InstalledTest, ALongStoryTakesNoMemory) {
  write_tiny_model(model_, 5, Dtype::f32, {{"tok.bytes", ""}}, 256, host_models()[2].config);
  std::string source = read_file("tests/embed/story.c");
  const std::pair<std::string, std::string> changes[] = {
      {"#include <stdio.h>", "#include <stdio.h>\n#include <stdlib.h>"},
      {"i < 200", "i < 5000"},
      {" || supra_is_end(engine, id)", ""},
      {"fflush(stdout);", "if (i % 2500 == 2499 && system(\"grep ^Rss /proc/$PPID/smaps_rollup >&2\")) return 1;"}};
  for (const auto& [printed, changed] : changes) source.replace(source.find(printed), printed.size(), changed);
  write_file_atomically(dir_.path() / "long.c", source);
  const std::string said = run("(" + build("cc -std=c11", dir_.path() / "long.c", archive_) + " " + model_ + " Once 2>&1 >/dev/null)");
  // the kernel takes single pages back and gives them again; the smallest block a token would make 80 kB of 2,500
  long early = 0, late = 0;
  ASSERT_EQ(sscanf(said.c_str(), "Rss: %ld kB\nRss: %ld kB", &early, &late), 2) << said;
  EXPECT_LE(late, early + 16);
}

// Errors are exceptions inside, and a host's linker may not write the header by which they find their handlers.
TEST_F(InstalledTest, AnErrorIsReportedHoweverAHostIsLinked) {
  const std::string missing = " absent.supra Once";
  for (const std::string flags : {"-static", "-static-pie", "-no-pie", "-Wl,--no-eh-frame-hdr", "-static -Wl,--gc-sections -fuse-ld=gold",
                                  "-static -Wl,--gc-sections -fuse-ld=lld"}) {
    const size_t linker = flags.find("-fuse-ld=");
    if (linker != flags.npos && shell("ld." + flags.substr(linker + 9) + " --version").code != 0) continue;
    const Said said = shell(build("cc -std=c11", "tests/embed/story.c", flags + " " + archive_) + missing);
    EXPECT_EQ(said.code, SUPRA_BAD_MODEL) << flags << "\n" << said.text;
  }
  // a host that throws, and finds its own handlers
  const std::string source = dir_.path() / "throws.cpp";
  write_file_atomically(source, R"(
#include <stdexcept>
#include <supra.h>
int main() {
  int caught = 0;
  for (int i = 0; i < 2; i++) {
    supra_error error;
    if (!supra_open("absent.supra", nullptr, &error)) caught += error.code;
    try { throw std::runtime_error("its own"); } catch (const std::exception&) { caught += 10; }
  }
  return caught;
})");
  for (const char* flags : {"", "-static "})
    EXPECT_EQ(shell(build("c++ -std=c++17", source, flags + archive_)).code, 20 + 2 * SUPRA_BAD_MODEL) << flags;
  // a plugin that is closed and opened again: what was registered went with it
  const std::string plugin = dir_.path() / "plugin.so";
  run("cc -shared -Wl,-u,supra_open " + archive_ + " -lm -o " + plugin);
  write_file_atomically(source, R"(
#include <dlfcn.h>
#include <supra.h>
int main(int, char** argv) {
  int caught = 0;
  for (int i = 0; i < 3; i++) {
    void* const plugin = dlopen(argv[1], RTLD_NOW);
    supra_error error;
    const auto open = reinterpret_cast<decltype(&supra_open)>(dlsym(plugin, "supra_open"));
    if (!open("absent.supra", nullptr, &error)) caught += error.code;
    dlclose(plugin);
  }
  return caught;
})");
  EXPECT_EQ(shell(build("c++ -std=c++17", source, "-ldl") + " " + plugin).code, 3 * SUPRA_BAD_MODEL);
}

// A vocabulary may hold pieces of any length, and the example's buffer ends somewhere.
TEST_F(InstalledTest, TheCExampleStaysInsideItsBuffer) {
  const bool asan = shell("echo 'int main(void) { return 0; }' | cc -fsanitize=address -x c - -o /dev/null").code == 0;
  const std::string program = build("cc -std=c11 -g", "tests/embed/story.c", archive_ + (asan ? " -fsanitize=address" : ""));
  for (const int32_t size : {324, 3000}) {
    // llama2.c's tokenizer: the longest piece, then score, size and text of each
    std::string pieces;
    const auto put = [&](const auto& word) { pieces.append(reinterpret_cast<const char*>(&word), sizeof word); };
    put(size);
    for (int id = 0; id < 256; id++) {
      put(0.0f);
      put(size);
      pieces += std::to_string(1000 + id) + std::string(static_cast<size_t>(size - 4), 'x');
    }
    write_tiny_model(model_, 5, Dtype::f32, {{"tok.bin", pieces}});
    const Said said = shell(program + " " + model_ + " Once");
    EXPECT_EQ(said.code, size == 324 ? SUPRA_OK : SUPRA_NO_ROOM) << said.text.substr(0, 2000);
    EXPECT_EQ(said.text.find("AddressSanitizer"), said.text.npos) << said.text.substr(0, 2000);
    EXPECT_EQ(said.text.find("3000 are needed") != said.text.npos, size == 3000) << said.text.substr(0, 2000);
  }
}

// Turns in one run are turns in two, with the state on disk between them; the last turn can be taken back.
TEST_F(InstalledTest, AChatGoesOnFromItsFile) {
  write_tiny_model(model_, 5, Dtype::f32,
                   {{"tokenizer.json", bytes_json({"<|endoftext|>", "<|im_start|>", "<|im_end|>"})}, {"chat_template.jinja", "<|im_start|>"}}, 99);
  const std::string program = build("cc -std=c11 -Wconversion", "tests/embed/chat.c", archive_);
  const auto chat = [&](const std::string& lines, const std::string& state) {
    return run("printf '" + lines + "' | " + program + " " + model_ + " " + dir_.path().string() + "/" + state + " 'Be brief.'");
  };
  const std::string both = chat("Who?\\nWhy?\\n", "a"), first = chat("Who?\\n", "b"), second = chat("Why?\\n", "b");
  EXPECT_GT(both.size(), 5u);
  EXPECT_EQ(first + second, both);
  EXPECT_EQ(chat("Who?\\nWhat?\\n/undo\\nWhy?\\n", "c").substr(0, first.size()), first);
  EXPECT_EQ(read_file(dir_.path() / "b"), read_file(dir_.path() / "a"));
  EXPECT_EQ(read_file(dir_.path() / "c"), read_file(dir_.path() / "a"));
  EXPECT_EQ(shell(program + " " + model_ + " " + model_ + " </dev/null").code, 1);
  EXPECT_EQ(shell(program + " " + model_ + " " + dir_.path().string() + "/absent/state </dev/null").code, 1);
}

TEST_F(InstalledTest, AThousandTimelinesGoThroughTheDisk) {
  const std::string program = build("c++ -std=c++17", "tests/embed/thousand.cpp", archive_);
  const std::string kept = run(program + " " + model_);
  EXPECT_EQ(std::count(kept.begin(), kept.end(), '\n'), 1000);
  EXPECT_EQ(run(program + " " + model_ + " " + dir_.path().string()), kept);
  EXPECT_EQ(shell(program + " " + model_ + " " + dir_.path().string() + "/absent").code, 1);
}

TEST_F(InstalledTest, WeightsInTheProgramAndMemoryInAnArray) {
  const std::string object = dir_.path() / "firmware.o";
  run("c++ -std=c++17 -O2 -Wall -Wextra -pedantic -Werror -fno-exceptions -fno-rtti -DMODEL='\"" + model_ + "\"' -I" +
      installed_.string() + "/include -c tests/embed/firmware.cpp -o " + object);
  const std::string program = build("cc", object, archive_);
  std::filesystem::remove(model_);
  EXPECT_NE(run(program).find("kB of memory"), std::string::npos);
}

// Transformers as other programs write them are refused by what they are.
TEST_F(InstalledTest, ForeignFilesAreRefused) {
  const std::string program = build("cc -std=c11", "tests/embed/story.c", archive_);
  const auto expect_refused = [&](const std::string& name, const std::string& bytes, const char* words) {
    const std::string file = dir_.path() / name;
    write_file_atomically(file, bytes);
    const Said said = shell(program + " " + file + " Once");
    EXPECT_EQ(said.code, SUPRA_BAD_MODEL);
    for (const std::string part : {file.c_str(), words, "supra linearize"})
      EXPECT_NE(said.text.find(part), std::string::npos) << said.text;
  };
  expect_refused("a.gguf", "GGUF", "a GGUF");
  expect_refused("a.bin", std::string(64, 'a'), "not a packed model");
  const std::string config = R"({"model_type": "llama"})";
  write_file_atomically(dir_.path() / "config.json", config);
  expect_refused("a.safetensors", std::string(64, 'a'), "Hugging Face's");
}

// All else would meet a host's own.
TEST_F(InstalledTest, OnlyTheApiIsSeen) {
  const auto names = [&](const std::string& of) {
    std::vector<std::string> lines;
    const std::string text = run("nm -P --defined-only " + of + " | grep -v ':$' | cut -d' ' -f1");
    for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
      lines.push_back(text.substr(at, end - at));
    return lines;
  };
  const std::vector<std::string> in_archive = names("-g " + archive_),
                                 in_shared = names("-D " + (installed_ / "lib/libsupra.so.1").string());
  EXPECT_EQ(in_archive.size(), 28u);
  EXPECT_EQ(in_archive, in_shared);
  for (const std::string& name : in_archive) EXPECT_TRUE(name.starts_with("supra_")) << name;
  const std::string needed = run("readelf -d " + (installed_ / "lib/libsupra.so.1").string());
  EXPECT_EQ(needed.find("stdc++"), std::string::npos);
  EXPECT_EQ(needed.find("blas"), std::string::npos);
  EXPECT_NE(needed.find("[libsupra.so.1]"), std::string::npos) << needed;
}

TEST_F(InstalledTest, TheProgramAndItsManualAreThere) {
  const std::string commands = run((installed_ / "bin/supra").string() + " --help");
  const std::string manual = read_file(installed_ / "share/man/man1/supra.1");
  for (const char* command : {"linearize", "uptrain", "generate"}) {
    EXPECT_NE(commands.find(command), std::string::npos);
    EXPECT_NE(manual.find(std::string(".B ") + command), std::string::npos);
  }
}

// Away from the source the demo finds its teacher beside the program; where that is missing it says so. It stops here at an
// output that cannot be, which it looks at next.
TEST_F(InstalledTest, TheDemoFindsItsTeacher) {
  const Path supra = installed_ / "bin/supra", alone = dir_.path() / "bin/supra";
  const std::string away = "cd " + dir_.path().string() + " && ", words = " demo -o /dev/null/out";
  const Said found = shell(away + supra.string() + words);
  EXPECT_EQ(found.code, 1);
  EXPECT_NE(found.text.find("/dev/null/out"), std::string::npos) << found.text;
  std::filesystem::create_directory(alone.parent_path());
  std::filesystem::copy(supra, alone);
  const Said missing = shell(away + alone.string() + words);
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.text.find("there is no teacher in tools/demo/teacher or"), std::string::npos) << missing.text;
  EXPECT_EQ(std::count(missing.text.begin(), missing.text.end(), '\n'), 1) << missing.text;
}

// make static: all that it needs is the kernel, and it is small enough for what has no disk.
TEST_F(InstalledTest, TheStaticProgramRunsModels) {
  const Path program = build_ / "static/supra";
  if (!exists(program)) GTEST_SKIP() << program << " is not there (make static)";
  // clang++ makes it larger
  const bool by_clang = run("readelf -p .comment " + program.string()).find("clang") != std::string::npos;
  EXPECT_LT(file_size(program), by_clang ? 2'500'000u : 2'000'000u);
  EXPECT_EQ(run("readelf -d " + program.string()).find("NEEDED"), std::string::npos);
  const std::string words = " generate " + model_ + " --prompt Once --tokens 20 --greedy 2>/dev/null)";
  EXPECT_EQ(run("(" + program.string() + words), run("(" + (installed_ / "bin/supra").string() + words));
  const Said refused = shell(program.string() + " uptrain");
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.text.find("'uptrain' is not in this program"), std::string::npos) << refused.text;
  // nothing can be installed that would change it
  const std::string doctor = run(program.string() + " doctor");
  EXPECT_EQ(doctor.find("apt-get"), std::string::npos) << doctor;
  EXPECT_EQ(doctor.find("nvcc"), std::string::npos) << doctor;
  const Said on_gpu = shell(program.string() + " generate " + model_ + " --prompt Once --device cuda");
  EXPECT_EQ(on_gpu.code, 1);
  EXPECT_NE(on_gpu.text.find("this program is for the CPU alone"), std::string::npos) << on_gpu.text;
}

// make BUILD=build/aarch64 CXX=aarch64-linux-gnu-g++ CONFIG=embed lib
TEST_F(InstalledTest, AnotherProcessorTellsTheSameStory) {
  const std::string library = build_ / "aarch64/embed/lib/libsupra.a", compiler = "aarch64-linux-gnu-gcc -std=c11";
  if (!exists(Path(library))) GTEST_SKIP() << library << " is not there (.ci/run builds it)";
  if (shell("qemu-aarch64 --version").code != 0) GTEST_SKIP() << "qemu-aarch64 is not here (apt-get install qemu-user)";
  const std::string here = run(build("cc -std=c11", "tests/embed/story.c", archive_) + " " + model_ + " Once");
  const std::string there = build(compiler, "tests/embed/story.c", "-static " + library);
  EXPECT_EQ(run("qemu-aarch64 " + there + " " + model_ + " Once"), here);
  EXPECT_EQ(shell("qemu-aarch64 " + there + " " + library + " Once").code, SUPRA_BAD_MODEL);
}

// The two files that people paste into their tree, compiled as supra/embed/README.md says.
TEST_F(InstalledTest, TheAmalgamationCompilesAlone) {
  const Path folder = build_ / "amalgamation";
  if (!exists(folder / "supra_embed.cpp")) GTEST_SKIP() << folder << " is not there (make amalgamation)";
  const std::string flags = " -I" + folder.string() + " ", object = dir_.path() / "supra_embed.o";
  // -O0 for the sake of the suite's time: -O2 takes half a minute each
  for (const std::string compiler : {"g++", "clang++"}) {
    if (shell(compiler + " --version").code != 0) continue;
    EXPECT_EQ(run(compiler + " -std=c++20 -O0 -Wall -Wextra -Werror" + flags + "-c " +
                  (folder / "supra_embed.cpp").string() + " -o " + object),
              "");
    const std::string program = build("cc -std=c11", "tests/embed/story.c", object + " -lstdc++ -s");
#if defined(__x86_64__)
    // each level by its own instructions, whatever the compiler makes of a #pragma
    const std::string wide = run("objdump -d " + program + " | grep -c zmm");
    EXPECT_GT(std::atoi(wide.c_str()), 1000) << compiler;
#endif
    EXPECT_EQ(run(program + " " + model_ + " Once"),
              run(build("cc -std=c11", "tests/embed/story.c", archive_) + " " + model_ + " Once"));
  }
}

}  // namespace
}  // namespace supra
