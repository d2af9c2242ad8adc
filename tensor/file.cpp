#include "tensor/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "tensor/error.h"

namespace supra {

namespace fs = std::filesystem;

#if !defined(RENAME_EXCHANGE)
// a C library without it (musl) answers as a file system without it does
constexpr unsigned RENAME_NOREPLACE = 1, RENAME_EXCHANGE = 2;
static int renameat2(int, const char*, int, const char*, unsigned) {
  errno = EINVAL;
  return -1;
}
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
  int fd;
  // a pipe that nobody writes is refused below, not waited for
  do fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_errno("open", path);
  struct stat info;
  if (fstat(fd, &info) != 0) {
    close(fd);
    fail_errno("read", path);
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    fail("%s: is not a regular file", path.c_str());
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) {
    close(fd);
    return;
  }
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) fail_errno("map", path);
  data_ = static_cast<const uint8_t*>(memory);
  owner_ = {memory, [size = size_](void* p) { munmap(p, size); }};
}

std::string read_file(const Path& path) { return std::string(MappedFile(path).text()); }

static void write_all_at(int fd, size_t offset, std::string_view bytes, const Path& path) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path);
    done += static_cast<size_t>(n);
  }
}

FileWriter::FileWriter(const Path& path) : path_(path) {
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno("write", path);
}

FileWriter::~FileWriter() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(path_.c_str());
}

void FileWriter::write(const void* data, size_t bytes) {
  buffer_.append(static_cast<const char*>(data), bytes);
  if (buffer_.size() >= (1 << 20)) flush();
}

void FileWriter::write_at(size_t offset, std::string_view bytes) {
  flush();
  write_all_at(fd_, offset, bytes, path_);
}

void FileWriter::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path_);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void FileWriter::finish() {
  flush();
  if (fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail_errno("flush", path_);
  const int fd = fd_;
  fd_ = -1;
  if (close(fd) != 0) fail_errno("close", path_);
}

PatchedFile::PatchedFile(const Path& path) : path_(path), fd_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {
  if (fd_ < 0) fail_errno("open", path);
}

PatchedFile::~PatchedFile() { close(fd_); }

size_t PatchedFile::read_at(size_t offset, void* to, size_t bytes) const {
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

void PatchedFile::write_at(size_t offset, std::string_view bytes) const { write_all_at(fd_, offset, bytes, path_); }

void sync_directory(const Path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_errno("open", path);
  // file systems that know no such thing say EINVAL
  const int reason = fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
  close(fd);
  errno = reason;
  if (reason) fail_errno("flush", path);
}

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

// Where the directory that a new one replaces waits, on file systems that cannot swap the two.
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
  std::error_code error;
  if (fs::exists(path, error) && !fs::is_regular_file(path, error)) {
    unlink(built.c_str());
    fail("%s: is not a regular file, so it is not replaced (give another name)", path.c_str());
  }
  // a link stays one: the file behind it is replaced, on whatever file system that is
  if (fs::is_symlink(path, error) && fs::exists(path, error)) {
    const Path built_there = temporary_path(fs::canonical(path));
    try {
      write_whole(built_there, MappedFile(built).text());
    } catch (...) {
      unlink(built.c_str());
      throw;
    }
    unlink(built.c_str());
    return replace_file(built_there, fs::canonical(path));
  }
  if (rename(built.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    unlink(built.c_str());
    errno = reason;
    fail_errno("replace", path);
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
  // left over by a run that was killed; one that died after it had moved the old directory aside gets that back first
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
  if (renameat2(AT_FDCWD, building_.c_str(), AT_FDCWD, final_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno != EEXIST && errno != EINVAL) fail_errno("create", final_);
    // swaps the two in one step; file systems without it (EINVAL) get the old one moved aside first
    if (renameat2(AT_FDCWD, building_.c_str(), AT_FDCWD, final_.c_str(), RENAME_EXCHANGE) != 0) {
      const Path old = aside_of(building_);
      std::error_code error;
      fs::remove_all(old, error);
      if (fs::exists(final_) && rename(final_.c_str(), old.c_str()) != 0) fail_errno("move aside", final_);
      if (rename(building_.c_str(), final_.c_str()) != 0) fail_errno("create", final_);
      fs::remove_all(old, error);
    }
  }
  committed_ = true;
  sync_directory(final_.parent_path());
  std::error_code error;
  fs::remove_all(building_, error);
}

FileLock::FileLock(const Path& path) : path_(path) {
  struct stat info;
  do {
    if (fd_ >= 0) close(fd_);
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) fail_errno("write", path);
    // file systems that know no locks give none
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      char process[16] = {};
      if (pread(fd_, process, sizeof process - 1, 0) <= 0) process[0] = '?';
      close(fd_);
      fail("%s: process %s is writing here (wait for it, stop it, or choose another place)", path.c_str(), process);
    }
    // again where its holder removed it between the two calls
  } while (fstat(fd_, &info) == 0 && info.st_nlink == 0);
  if (ftruncate(fd_, 0) == 0) dprintf(fd_, "%d", getpid());
}

FileLock::~FileLock() {
  unlink(path_.c_str());
  close(fd_);
}

}  // namespace supra
