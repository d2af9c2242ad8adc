#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

// Files: memory-mapped reading, checked writing, directories that are complete or absent. Every error names the path, the
// operation and the system's reason.

namespace supra {

using Path = std::filesystem::path;

// A whole file, mapped read-only. Copies share the mapping.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const Path& path);
  // Bytes that are already in memory, with a name for errors. `owner` keeps them alive; if it is null, the caller does.
  MappedFile(const Path& name, const void* data, size_t size, std::shared_ptr<void> owner)
      : owner_(std::move(owner)), data_(static_cast<const uint8_t*>(data)), size_(size), path_(name) {}

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const Path& path() const { return path_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  std::shared_ptr<void> owner() const { return owner_; }  // keeps the mapping alive

 private:
  std::shared_ptr<void> owner_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  Path path_;
};

std::string read_file(const Path& path);

// An open file, read and written at any offset. Bytes before its end that nobody wrote are zeros, and take no space if the file
// system supports holes.
class OpenFile {
 public:
  explicit OpenFile(const Path& path);                         // an existing file, to read and write
  OpenFile(const Path& path, int flags, const char* action);  // as open(2); `action` is named if it fails
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const Path& path() const { return path_; }
  int descriptor() const { return fd_; }
  size_t read_at(size_t offset, void* to, size_t bytes) const;  // the number of bytes read, smaller at the end of the file
  void write_at(size_t offset, std::string_view bytes) const;
  void flush_to_disk() const;
  void close();  // reports an error that a file system held back until now; the destructor cannot

 private:
  Path path_;
  int fd_;  // -1: closed
};

// Sequential writing. finish() flushes to disk. If it is not called, the file is removed.
class FileWriter {
 public:
  explicit FileWriter(const Path& path);
  ~FileWriter();

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void write_at(size_t offset, std::string_view bytes);  // replaces bytes that were already written
  void finish();

 private:
  void flush();
  OpenFile file_;
  std::string buffer_;
  size_t written_ = 0;
  bool finished_ = false;
};

// The temporary name under which `path` is written before it is renamed.
Path temporary_path(const Path& path);

// Renames a finished file to its final name in the same folder and flushes the folder.
void replace_file(const Path& temporary, const Path& path);

// Writes under a temporary name, flushes to disk and renames: readers see the old file or the new one, never a part.
void write_file_atomically(const Path& path, std::string_view text);

// Replaces a file by another one in one step. Uses a hard link to the same bytes if the file system has links.
void copy_file_atomically(const Path& from, const Path& to);

// Creates a directory and its parents, and flushes them to disk.
void make_directories(const Path& path);

// Flushes the entries of a directory to disk.
void sync_directory(const Path& path);

// Removes a directory if it exists. If the program dies meanwhile, the directory is complete or gone.
void remove_directory(const Path& path);

// Removes the unfinished copy of `path` that a dead process left. Only for a folder that nobody else writes to.
void remove_unfinished(const Path& path);

// A directory that is built under a temporary name. commit() flushes everything and swaps it with the final name. Until then,
// and if the program dies at any instant, the old directory is untouched. Without commit() the new one is removed. (On file systems
// that cannot swap two names, the old one is moved aside for an instant; if the program dies then, the next NewDirectory restores it.)
class NewDirectory {
 public:
  explicit NewDirectory(const Path& final_path);
  ~NewDirectory();
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const Path& path() const { return building_; }  // write the files here
  void commit();

 private:
  Path final_, building_;
  bool committed_ = false;
};

// A lock file: one process at a time can hold it. It is removed at the end. The lock of a process that died is free.
class FileLock {
 public:
  explicit FileLock(const Path& path);  // throws Error naming the process that holds it
  ~FileLock();

 private:
  std::optional<OpenFile> file_;
};

}  // namespace supra
