#include <algorithm>
#include <cmath>

#include "tests/tools/browser.h"
#include "tests/supra/embed/embed_model.h"
#include "tests/tools/script_test.h"

// The page of `make web` in a browser, with a model of the test's own beside it: it says what the library says here.

namespace supra {
namespace {

class WebTest : public ScriptTest, public testing::WithParamInterface<HostModel> {
 protected:
  void SetUp() override {
    if (!exists(built_ / "supra.js")) GTEST_SKIP() << built_ / "supra.js" << " is not there (make web, which needs emscripten)";
    if (!Browser::is_here()) GTEST_SKIP() << "chromium is not here (apt-get install chromium)";
    write_tiny_model(model_, 5, Dtype::f32, {{"tok.bytes", ""}}, 256, GetParam().config);
    engine_.reset(supra_open(model_.c_str(), nullptr, nullptr));
    std::filesystem::create_directory(site_);
    const std::string to = " " + site_.string();
    run("cp tools/web/* " + (built_ / "supra.js").string() + to + "; { printf 'const supraStudent = \"'; base64 " + model_.string() +
        " | tr -d '\\n'; echo '\";'; } >" + to + "/student.js");
    page_.emplace("file://" + (site_ / "index.html").string());
    page_->wait_for("document.getElementById('status')?.textContent.includes('is open')");
    page_->value("var said = [[], []], last = []; worker.addEventListener('message', ({data}) => {"
                 " last[data.pane] = data; said[data.pane].push(...(data.ids ?? [])); })");
  }

  // Nothing went wrong on the way, and nothing was asked for but the page's own files.
  void TearDown() override {
    if (!page_) return;
    for (const std::string& complaint : page_->complaints()) ADD_FAILURE() << complaint;
    for (const std::string& url : page_->requests())
      EXPECT_TRUE(url.starts_with("file://" + site_.string()) || url.starts_with("blob:") || url.starts_with("data:")) << url;
  }

  void set(const std::string& field, double value) { page_->value(format("document.getElementById('%s').value = %g", field.c_str(), value)); }
  void press(const std::string& button, int pane = 0) {
    page_->value(format("document.querySelectorAll('.pane')[%d].querySelector('.%s').click()", pane, button.c_str()));
  }
  void begin(const std::string& prompt, int count, int pane = 0) {
    set("count", count);
    page_->value(format("document.querySelectorAll('.prompt')[%d].value = '%s'; said[%d] = []; last[%d] = {}", pane, prompt.c_str(), pane, pane));
    page_->value("document.getElementById('goOn').checked = true");
    press("write", pane);
  }
  // What the page writes after a prompt.
  std::vector<int32_t> written(const std::string& prompt, int count, int pane = 0) {
    begin(prompt, count, pane);
    page_->wait_for(format("last[%d].done", pane));
    std::vector<int32_t> ids;
    const Json list = page_->value(format("said[%d]", pane));
    for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_integer()));
    return ids;
  }
  // The same here.
  std::vector<int32_t> expected(const SessionPtr& session, const std::string& prompt, int count, supra_sampling sampling, uint64_t seed) {
    const uint32_t flags = supra_position(session.get()) == 0 ? 0 : SUPRA_CONTINUE;
    EXPECT_EQ(supra_feed_text(session.get(), prompt.data(), prompt.size(), flags, nullptr), SUPRA_OK);
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) {
      EXPECT_EQ(supra_sample(session.get(), &sampling, &seed, &id, nullptr), SUPRA_OK);
      EXPECT_EQ(supra_feed(session.get(), &id, 1, nullptr), SUPRA_OK);
    }
    return ids;
  }
  // The session of a pane, through a file that the page saves.
  SessionPtr downloaded() {
    const Path file = page_->downloads() / "supra.state";
    press("save");
    for (int i = 0; i < 600 && (!exists(file) || file_size(file) != supra_state_bytes(engine_.get())); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const std::string state = read_file(file);
    SessionPtr session = start(engine_);
    supra_error error;
    EXPECT_EQ(supra_load(session.get(), state.data(), state.size(), &error), SUPRA_OK) << error.message;
    return session;
  }
  void choose_file(const std::string& selector, const Path& file) {
    const std::string object = page_->call("Runtime.evaluate", Json::object({{"expression", "document.querySelector('" + selector + "')"}}).dump())
                                   .at("result").text("objectId");
    page_->call("DOM.setFileInputFiles", Json::object({{"objectId", object}, {"files", Json::array({file.string()})}}).dump());
  }

  const Path built_ = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "web";
  const Path site_ = dir_.path() / "site", model_ = dir_.path() / "model.supra";
  const supra_sampling sampling_ = sampling_of(0.8f, 40, 0.95f), greedy_ = sampling_of(0);
  EnginePtr engine_;
  std::optional<Browser> page_;
};

INSTANTIATE_TEST_SUITE_P(Models, WebTest, testing::Values(host_models()[0], host_models()[3]), [](const auto& info) { return info.param.name; });

TEST_P(WebTest, WritesWhatTheLibraryWritesHere) {
  set("seed", 7);
  const SessionPtr here = start(engine_);
  EXPECT_EQ(written("Once", 64), expected(here, "Once", 64, sampling_, 7));

  // its session goes on here
  const SessionPtr saved_there = downloaded();
  EXPECT_EQ(supra_position(saved_there.get()), supra_position(here.get()));
  const std::vector<float> there = logits_of(engine_, saved_there), logits = logits_of(engine_, here);
  for (size_t i = 0; i < logits.size(); i++) EXPECT_NEAR(there[i], logits[i], 1e-4f * std::max(1.0f, std::fabs(logits[i])));
  set("temperature", 0);
  EXPECT_EQ(written(" and", 32), expected(saved_there, " and", 32, greedy_, 0));

  // and one from here goes on there
  const SessionPtr other = start(engine_);
  expected(other, "A session of this program", 20, sampling_, 3);
  write_file_atomically(dir_.path() / "here.state", saved(engine_, other));
  page_->value("last[0] = {}");
  choose_file(".file", dir_.path() / "here.state");
  page_->wait_for("last[0].loaded");
  EXPECT_EQ(written("", 32), expected(other, "", 32, greedy_, 0));
}

TEST_P(WebTest, AForkIsAnotherSession) {
  const SessionPtr here = start(engine_);
  EXPECT_EQ(written("Once", 16), expected(here, "Once", 16, sampling_, 1));
  press("fork");
  const SessionPtr fork(supra_clone(here.get(), nullptr));
  EXPECT_EQ(written("", 16, 1), expected(fork, "", 16, sampling_, 2));
  EXPECT_EQ(written("", 16), expected(here, "", 16, sampling_, 1));
  press("fork", 1);
  EXPECT_EQ(page_->value("document.querySelectorAll('.pane').length").as_integer(), 1);
}

TEST_P(WebTest, TwentyThousandTokensTakeNoMemory) {
  written("Once", 200);
  const int64_t early = page_->value("last[0].memory").as_integer();
  written("", 20'000 - 200);
  EXPECT_EQ(page_->value("last[0].memory").as_integer(), early);
  EXPECT_GE(page_->value("last[0].position").as_integer(), 20'000);
  const std::string figures = page_->value("document.querySelector('.figures').textContent").as_string();
  EXPECT_NE(figures.find("times as much"), figures.npos) << figures;
}

TEST_P(WebTest, StopsWhenToldTo) {
  begin("Once", 1'000'000);
  page_->wait_for("said[0].length > 100");
  press("stop");
  page_->wait_for("last[0].done?.stopped");
  EXPECT_LT(page_->value("said[0].length").as_integer(), 1'000'000);
}

TEST_P(WebTest, SaysWhatIsWrongWithAFile) {
  write_file_atomically(dir_.path() / "no.state", std::string(1000, 'x'));
  choose_file(".file", dir_.path() / "no.state");
  page_->wait_for("document.querySelector('#status.failed')?.textContent.includes('not a state from supra_save')");
  choose_file("#model", dir_.path() / "no.state");
  page_->wait_for("document.querySelector('#status.failed')?.textContent.includes('not a packed model')");
  choose_file("#model", model_);
  page_->wait_for("document.getElementById('status').textContent.includes('model.supra is open')");
}

// For keyboard and screen reader: whatever takes the focus has a name, and the focus is never lost.
TEST_P(WebTest, EveryControlHasAName) {
  const Json tree = page_->call("Accessibility.getFullAXTree");
  int controls = 0;
  for (const Json& node : tree.at("nodes").as_array()) {
    const Json* const role = node.find("role");
    const std::string is = role ? role->text("value", "") : "";
    if (is != "button" && is != "textbox" && is != "spinbutton" && is != "checkbox" && is != "log" && is != "image") continue;
    controls++;
    EXPECT_FALSE(node.at("name").text("value").empty()) << node.dump();
  }
  EXPECT_GE(controls, 16);
  page_->value("document.querySelector('.write').focus()");
  begin("Once", 1000);
  EXPECT_EQ(page_->value("document.activeElement.className").as_string(), "stop");
  page_->wait_for("last[0].done");
  EXPECT_EQ(page_->value("document.activeElement.className").as_string(), "write");
}

TEST(WebFilesTest, AreSmall) {
  int64_t lines = 0, bytes = 0;
  for (const char* name : {"index.html", "page.js", "worker.js"}) {
    const std::string text = read_file(std::string("tools/web/") + name);
    lines += std::count(text.begin(), text.end(), '\n');
    bytes += static_cast<int64_t>(text.size());
  }
  EXPECT_LE(lines, 500);
  EXPECT_LT(bytes, 60'000);
  const Path wasm = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "web/supra.wasm";
  if (!exists(wasm)) GTEST_SKIP() << wasm << " is not there (make web, which needs emscripten)";
  EXPECT_LT(file_size(wasm), 1'200'000u);
}

}  // namespace
}  // namespace supra
