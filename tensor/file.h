#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

// Files: mapped reading, checked writing, and directories that are complete or absent. Every error names the path, what
// was tried and the system's reason.

namespace supra {

using Path = std::filesystem::path;

// A whole file, mapped read-only. Copies share the mapping.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const Path& path);
  // Bytes that are in memory already, under a name for errors; `owner` keeps them there, null: the caller does.
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

// Sequential writing; finish() flushes to the disk. A file that was not finished is removed.
class FileWriter {
 public:
  explicit FileWriter(const Path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void write_at(size_t offset, std::string_view bytes);  // over bytes that were written
  void finish();

 private:
  void flush();
  Path path_;
  int fd_ = -1;
  std::string buffer_;
};

// A file that is there already, read and written at any place. What nobody wrote before its end is zeros, and takes no room
// where the file system knows holes. Writing flushes nothing.
class PatchedFile {
 public:
  explicit PatchedFile(const Path& path);
  ~PatchedFile();
  PatchedFile(const PatchedFile&) = delete;
  PatchedFile& operator=(const PatchedFile&) = delete;

  // Returns how many bytes there were before the end.
  size_t read_at(size_t offset, void* to, size_t bytes) const;
  void write_at(size_t offset, std::string_view bytes) const;

 private:
  Path path_;
  int fd_;
};

// The name under which what will be `path` is written first.
Path beside(const Path& path);

// Renames a finished file that stands in the folder of the one it replaces, for good: the folder is flushed.
void replace_file(const Path& beside, const Path& path);

// Writes beside the final name, flushes to the disk and renames: the file is old or new, never half.
void write_file_atomically(const Path& path, std::string_view text);

// Replaces a file by another one in one step: by a second name for the same bytes, where the file system has links.
void copy_file_atomically(const Path& from, const Path& to);

// Makes a directory and those above it, flushed to the disk.
void make_directories(const Path& path);

// Flushes the names in a directory to the disk.
void sync_directory(const Path& path);

// Removes a directory, if it is there: complete or gone, never half.
void remove_directory(const Path& path);

// Removes what a process that died was about to write as `path`. Only for a folder that nobody else writes to.
void remove_unfinished(const Path& path);

// A directory built beside its final name. commit() flushes everything and swaps it in; before that, or if the program
// dies at any instant, whatever stood under the final name stands untouched. Not committed: removed. (On file systems that
// cannot swap two names it is moved aside for an instant, and the next NewDirectory of that name moves it back.)
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

// A file that one process at a time can hold; it is removed at the end, and one whose holder died is free.
class FileLock {
 public:
  // Throws Error naming the process that holds it.
  explicit FileLock(const Path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  Path path_;
  int fd_ = -1;
};

}  // namespace supra
