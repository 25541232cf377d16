// Files of this operating system, whichever it is: read whole, or written through a descriptor.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace rnnfast::core {

struct FileBytes {
    std::shared_ptr<const void> memory;  // mapped where the system can, else read
    size_t size = 0;
};
// Throws Error for what is not a regular file or cannot be read.
FileBytes read_file(const std::string& path);

// Created, or emptied if it exists. Throws Error.
class OutputFile {
public:
    explicit OutputFile(const std::string& path);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    int descriptor() const { return descriptor_; }
    void close();  // throws Error for what the system only now knows not to be written

private:
    std::string path_;
    int descriptor_;
};

// All of it, or std::system_error.
void write_all(int descriptor, const void* data, size_t size);

}  // namespace rnnfast::core
