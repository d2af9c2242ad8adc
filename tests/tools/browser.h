#pragma once
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "supra/formats/parse/json.h"
#include "tests/support.h"

// A page in headless chromium, driven by the browser's own protocol (DevTools, over a pipe).

namespace supra {

class Browser {
 public:
  static bool is_here() { return system("command -v chromium >/dev/null 2>&1") == 0; }

  explicit Browser(const std::string& url) {
    int commands[2], answers[2];
    CHECK(pipe2(commands, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0, "no pipe for the browser");
    child_ = fork();
    if (child_ == 0) {
      setpgid(0, 0);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      // it reads from 3 and writes to 4, which may be among the pipes' own numbers
      const int in = fcntl(commands[0], F_DUPFD, 10), out = fcntl(answers[1], F_DUPFD, 10), nothing = open("/dev/null", O_RDWR);
      dup2(nothing, 1), dup2(nothing, 2), dup2(in, 3), dup2(out, 4);
      const std::string profile = "--user-data-dir=" + (profile_.path() / "profile").string();
      execlp("chromium", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
             profile.c_str(), "about:blank", nullptr);
      _exit(127);
    }
    close(commands[0]), close(answers[1]);
    to_ = commands[1], from_ = answers[0];
    call("Browser.setDownloadBehavior", R"({"behavior":"allow","downloadPath":")" + downloads().string() + "\"}");
    const std::string target = call("Target.createTarget", R"({"url":"about:blank"})").text("targetId");
    session_ = call("Target.attachToTarget", R"({"flatten":true,"targetId":")" + target + "\"}").text("sessionId");
    watch(session_);
    call("Target.setAutoAttach", R"({"autoAttach":true,"waitForDebuggerOnStart":false,"flatten":true})");
    call("Page.navigate", Json::object({{"url", url}}).dump());
  }
  ~Browser() {
    close(to_), close(from_);
    kill(-child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }

  Path downloads() const { return profile_.path(); }
  // What the page and its workers complained of, and what they asked for.
  const std::vector<std::string>& complaints() const { return complaints_; }
  const std::vector<std::string>& requests() const { return requests_; }

  // The result of a command of the protocol, to the page once there is one.
  Json call(const std::string& method, const std::string& parameters = "{}") {
    const int64_t id = send(method, parameters, session_);
    while (true) {
      const Json said = next_message();
      if (said.integer("id", -1) != id) continue;
      CHECK(!said.find("error"), "%s: %s", method.c_str(), said.dump().c_str());
      return said.at("result");
    }
  }

  // The value of an expression of JavaScript; a promise's is waited for.
  Json value(const std::string& expression) {
    const Json said = call("Runtime.evaluate", Json::object({{"expression", expression}, {"awaitPromise", true}, {"returnByValue", true}}).dump());
    CHECK(!said.find("exceptionDetails"), "%s: %s", expression.c_str(), said.dump().c_str());
    const Json* const value = said.at("result").find("value");
    return value ? *value : Json();
  }

  void wait_for(const std::string& condition) {
    for (const auto start = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - start < std::chrono::minutes(1);) {
      if (value("Boolean(" + condition + ")").as_bool()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    fail("the page did not come to this in a minute: %s", condition.c_str());
  }

 private:
  int64_t send(const std::string& method, const std::string& parameters, const std::string& session) {
    const std::string to = session.empty() ? "" : ",\"sessionId\":\"" + session + "\"";
    const std::string text = format("{\"id\":%d,\"method\":\"%s\",\"params\":%s%s}", ++last_id_, method.c_str(), parameters.c_str(), to.c_str());
    for (size_t done = 0; done <= text.size();) {
      const ssize_t n = write(to_, text.c_str() + done, text.size() + 1 - done);
      CHECK(n > 0, "the browser is gone");
      done += static_cast<size_t>(n);
    }
    return last_id_;
  }

  void watch(const std::string& session) {
    for (const char* domain : {"Runtime", "Log", "Network"}) send(std::string(domain) + ".enable", "{}", session);
  }

  // The next message, after it was looked at.
  Json next_message() {
    size_t end;
    while ((end = buffer_.find('\0')) == buffer_.npos) {
      pollfd ready = {from_, POLLIN, 0};
      CHECK(poll(&ready, 1, 120'000) == 1, "the browser said nothing for two minutes");
      char part[1 << 16];
      const ssize_t n = read(from_, part, sizeof part);
      CHECK(n > 0, "the browser is gone");
      buffer_.append(part, static_cast<size_t>(n));
    }
    const Json said = Json::parse(buffer_.substr(0, end), "the browser");
    buffer_.erase(0, end + 1);
    const std::string method = said.text("method", "");
    if (method == "Target.attachedToTarget") watch(said.at("params").text("sessionId"));
    if (method == "Network.requestWillBeSent") requests_.push_back(said.at("params").at("request").text("url"));
    const bool is_error = method == "Runtime.exceptionThrown" || method == "Inspector.targetCrashed" ||
                          (method == "Log.entryAdded" && said.at("params").at("entry").text("level") == "error") ||
                          (method == "Runtime.consoleAPICalled" && said.at("params").text("type") == "error");
    if (is_error) complaints_.push_back(said.dump());
    return said;
  }

  TempDir profile_;
  pid_t child_;
  int to_, from_, last_id_ = 0;
  std::string session_, buffer_;
  std::vector<std::string> complaints_, requests_;
};

}  // namespace supra
