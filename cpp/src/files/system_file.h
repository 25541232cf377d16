// Files on any operating system: read as a whole, or written through a descriptor.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace rnnfast::core {

struct FileBytes {
    std::shared_ptr<const void> memory;  // mapped if the system can do so, else read
    size_t size = 0;
    bool mapped = false;
};
// Throws Error if the path is not a regular file or cannot be read.
FileBytes read_file(const std::string& path);

// Created, or emptied if it exists. Throws Error.
class OutputFile {
public:
    explicit OutputFile(const std::string& path);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    int descriptor() const { return descriptor_; }
    void close();  // throws Error for a write error that the system reports only now

private:
    std::string path_;
    int descriptor_;
};

// Writes everything or throws std::system_error.
void write_all(int descriptor, const void* data, size_t size);

}  // namespace rnnfast::core
