#include "supra/formats/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "tensor/error.h"

namespace supra {

namespace fs = std::filesystem;

#if !defined(RENAME_EXCHANGE)
// a C library without it (musl) is like a file system without it
constexpr unsigned RENAME_EXCHANGE = 2;
static int renameat2(int, const char*, int, const char*, unsigned) { return -1; }
#endif

[[noreturn]] static void fail_errno(const char* action, const Path& path) {
  const int reason = errno;
  const char* hint = reason == ENOENT   ? " (check the spelling, or where you are)"
                     : reason == ENOSPC ? " (free some space and run it again)"
                     : reason == EACCES ? " (check its permissions)"
                                        : "";
  fail("%s: cannot %s: %s%s", path.c_str(), action, strerror(reason), hint);
}

MappedFile::MappedFile(const Path& path) : path_(path) {
  // O_NONBLOCK: a pipe that nobody writes to is refused below instead of waited for
  const OpenFile file(path, O_RDONLY | O_NONBLOCK, "open");
  struct stat info;
  if (fstat(file.descriptor(), &info) != 0) fail_errno("read", path);
  CHECK(S_ISREG(info.st_mode), "%s: is not a regular file", path.c_str());
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (memory == MAP_FAILED) fail_errno("map", path);
  data_ = static_cast<const uint8_t*>(memory);
  owner_ = {memory, [size = size_](void* p) { munmap(p, size); }};
}

std::string read_file(const Path& path) { return std::string(MappedFile(path).text()); }

OpenFile::OpenFile(const Path& path, int flags, const char* action) : path_(path) {
  do fd_ = open(path.c_str(), flags | O_CLOEXEC, 0666);
  while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) fail_errno(action, path);
}

OpenFile::OpenFile(const Path& path) : OpenFile(path, O_RDWR, "open") {}

OpenFile::~OpenFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OpenFile::close() {
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) fail_errno("close", path_);
}

size_t OpenFile::read_at(size_t offset, void* to, size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n = pread(fd_, static_cast<char*>(to) + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read", path_);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void OpenFile::write_at(size_t offset, std::string_view bytes) const {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path_);
    done += static_cast<size_t>(n);
  }
}

void OpenFile::flush_to_disk() const {
  // a file system that cannot flush answers EINVAL
  if (fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail_errno("flush", path_);
}

FileWriter::FileWriter(const Path& path) : file_(path, O_WRONLY | O_CREAT | O_TRUNC, "write") {}

FileWriter::~FileWriter() {
  if (!finished_) unlink(file_.path().c_str());
}

void FileWriter::write(const void* data, size_t bytes) {
  buffer_.append(static_cast<const char*>(data), bytes);
  if (buffer_.size() >= (1 << 20)) flush();
}

void FileWriter::write_at(size_t offset, std::string_view bytes) {
  flush();
  file_.write_at(offset, bytes);
}

void FileWriter::flush() {
  file_.write_at(written_, buffer_);
  written_ += buffer_.size();
  buffer_.clear();
}

void FileWriter::finish() {
  flush();
  file_.flush_to_disk();
  file_.close();
  finished_ = true;
}

void sync_directory(const Path& path) { OpenFile(path, O_RDONLY | O_DIRECTORY, "open").flush_to_disk(); }

static Path parent_of(const Path& path) { return path.has_parent_path() ? path.parent_path() : Path("."); }

void make_directories(const Path& path) {
  std::vector<Path> absent;
  std::error_code error;
  for (Path at = path; !fs::exists(at, error); at = parent_of(at)) absent.push_back(at);
  fs::create_directories(path, error);
  CHECK(!error, "%s: cannot create a directory: %s (give another place)", path.c_str(), error.message().c_str());
  for (const Path& made : absent) sync_directory(parent_of(made));
}

Path temporary_path(const Path& path) { return parent_of(path) / (".tmp-" + path.filename().string()); }

void remove_directory(const Path& path) {
  const Path aside = temporary_path(path);
  std::error_code error;
  fs::remove_all(aside, error);
  if (rename(path.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    fail_errno("remove", path);
  }
  sync_directory(parent_of(path));
  fs::remove_all(aside, error);
}

// The name of the old directory while a new one replaces it, on file systems that cannot swap the two.
static Path aside_of(const Path& built) { return built.string() + ".old"; }

void remove_unfinished(const Path& path) {
  std::error_code error;
  fs::remove_all(temporary_path(path), error);
  fs::remove_all(aside_of(temporary_path(path)), error);
}

static void write_whole(const Path& path, std::string_view text) {
  FileWriter out(path);
  out.write(text);
  out.finish();
}

void replace_file(const Path& built, const Path& path) {
  try {
    std::error_code error;
    const bool exists = fs::exists(path, error);
    CHECK(!exists || fs::is_regular_file(path, error), "%s: is not a regular file, so it is not replaced (give another name)",
          path.c_str());
    // a link stays a link: the file that it names is replaced, even on another file system
    if (exists && fs::is_symlink(path, error)) {
      write_file_atomically(fs::canonical(path), MappedFile(built).text());
      unlink(built.c_str());
      return;
    }
    if (rename(built.c_str(), path.c_str()) != 0) fail_errno("replace", path);
  } catch (...) {
    unlink(built.c_str());
    throw;
  }
  sync_directory(parent_of(path));
}

void write_file_atomically(const Path& path, std::string_view text) {
  write_whole(temporary_path(path), text);
  replace_file(temporary_path(path), path);
}

void copy_file_atomically(const Path& from, const Path& to) {
  const Path built = temporary_path(to);
  unlink(built.c_str());
  if (link(from.c_str(), built.c_str()) != 0) write_whole(built, MappedFile(from).text());
  replace_file(built, to);
}

NewDirectory::NewDirectory(const Path& final_path) : final_(fs::absolute(final_path).lexically_normal()) {
  // a trailing slash leaves an empty file name
  if (!final_.has_filename()) final_ = final_.parent_path();
  make_directories(final_.parent_path());
  CHECK(!fs::exists(final_) || fs::is_directory(final_), "%s: is a file, a directory is to be written there (give another name)",
        final_.c_str());
  building_ = temporary_path(final_);
  // a killed run may have left these; if it died after it had moved the old directory aside, that one is restored first
  std::error_code error;
  if (!fs::exists(final_, error)) rename(aside_of(building_).c_str(), final_.c_str());
  remove_unfinished(final_);
  if (mkdir(building_.c_str(), 0777) != 0) fail_errno("create a directory", building_);
}

NewDirectory::~NewDirectory() {
  std::error_code error;
  if (!committed_) fs::remove_all(building_, error);
}

void NewDirectory::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(building_)) {
    if (entry.is_directory()) sync_directory(entry.path());
  }
  sync_directory(building_);
  // swaps the two in one step; if that is impossible, an old directory is moved aside first
  std::error_code error;
  if (renameat2(AT_FDCWD, building_.c_str(), AT_FDCWD, final_.c_str(), RENAME_EXCHANGE) != 0) {
    const Path old = aside_of(building_);
    fs::remove_all(old, error);
    if (fs::exists(final_) && rename(final_.c_str(), old.c_str()) != 0) fail_errno("move aside", final_);
    if (rename(building_.c_str(), final_.c_str()) != 0) fail_errno("create", final_);
    fs::remove_all(old, error);
  }
  committed_ = true;
  sync_directory(final_.parent_path());
  fs::remove_all(building_, error);
}

FileLock::FileLock(const Path& path) {
  struct stat info;
  do {
    file_.emplace(path, O_RDWR | O_CREAT, "write");
    // a file system without locks gives none
    if (flock(file_->descriptor(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      char process[16] = {};
      if (file_->read_at(0, process, sizeof process - 1) == 0) process[0] = '?';
      fail("%s: process %s is writing here (wait for it, stop it, or choose another place)", path.c_str(), process);
    }
    // again if the holder removed the file between the two calls
  } while (fstat(file_->descriptor(), &info) == 0 && info.st_nlink == 0);
  if (ftruncate(file_->descriptor(), 0) == 0) dprintf(file_->descriptor(), "%d", getpid());
}

FileLock::~FileLock() { unlink(file_->path().c_str()); }

}  // namespace supra
