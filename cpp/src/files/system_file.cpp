#include "files/system_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "rnnfast/error.hpp"
#include "runtime/sentence.h"

#if defined(_WIN32)
#include <io.h>

#include <filesystem>
#include <fstream>
#else
#include <unistd.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define RNNFAST_MAPS_FILES
#endif

namespace rnnfast::core {

namespace {

std::string reason() { return std::strerror(errno); }

#if defined(_WIN32)
int open_for_writing(const std::string& path) {
    return ::_wopen(std::filesystem::u8path(path).c_str(), _O_WRONLY | _O_CREAT | _O_TRUNC | _O_BINARY | _O_NOINHERIT,
                    _S_IREAD | _S_IWRITE);
}
int close_descriptor(int descriptor) { return ::_close(descriptor); }
long long write_some(int descriptor, const void* data, size_t size) {
    return ::_write(descriptor, data, static_cast<unsigned>(std::min(size, size_t{1} << 30)));
}
#else
int open_for_writing(const std::string& path) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}
int close_descriptor(int descriptor) { return ::close(descriptor); }
ssize_t write_some(int descriptor, const void* data, size_t size) { return ::write(descriptor, data, size); }

// The whole file, or null.
#if defined(RNNFAST_MAPS_FILES)
constexpr bool maps_files = true;
std::shared_ptr<const void> contents(int descriptor, size_t size) {
    void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (memory == MAP_FAILED) return nullptr;
    return {memory, [size](const void* p) { ::munmap(const_cast<void*>(p), size); }};
}
#else
constexpr bool maps_files = false;
std::shared_ptr<const void> contents(int descriptor, size_t size) {
    std::shared_ptr<char> memory(new char[size], std::default_delete<char[]>());
    for (size_t at = 0; at < size;) {
        const ssize_t got = ::read(descriptor, memory.get() + at, size - at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return nullptr;
        at += static_cast<size_t>(got);
    }
    return memory;
}
#endif
#endif

}  // namespace

#if defined(_WIN32)
FileBytes read_file(const std::string& path) {
    const std::filesystem::path place = std::filesystem::u8path(path);
    std::error_code error;
    const bool regular = std::filesystem::is_regular_file(place, error);
    if (error) refuse_file({path, ": cannot be opened: ", error.message()});
    if (!regular) refuse_file({path, ": is not a file"});
    const auto size = static_cast<size_t>(std::filesystem::file_size(place, error));
    std::ifstream stream(place, std::ios::binary);
    if (error || !stream) refuse_file({path, ": cannot be opened: ", error ? error.message() : reason()});
    const std::shared_ptr<char> memory(new char[size], std::default_delete<char[]>());
    if (!stream.read(memory.get(), static_cast<std::streamsize>(size)))
        refuse_file({path, ": cannot be read: ", reason()});
    return {memory, size};
}
#else
FileBytes read_file(const std::string& path) {
    struct Descriptor {
        int number;
        ~Descriptor() {
            if (number >= 0) ::close(number);
        }
    };
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat status;
    if (file.number < 0 || ::fstat(file.number, &status) != 0) refuse_file({path, ": cannot be opened: ", reason()});
    if (!S_ISREG(status.st_mode)) refuse_file({path, ": is not a file"});
    const auto size = static_cast<size_t>(status.st_size);
    if (size == 0) return {};
    std::shared_ptr<const void> memory = contents(file.number, size);
    if (!memory) refuse_file({path, ": cannot be read: ", reason()});
    return {std::move(memory), size, maps_files};
}
#endif

OutputFile::OutputFile(const std::string& path) : path_(path), descriptor_(open_for_writing(path)) {
    if (descriptor_ < 0) refuse_file({path_, ": cannot be written: ", reason()});
}

OutputFile::~OutputFile() {
    if (descriptor_ >= 0) close_descriptor(descriptor_);
}

void OutputFile::close() {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    if (close_descriptor(descriptor) != 0) refuse_file({path_, ": cannot be written: ", reason()});
}

void write_all(int descriptor, const void* data, size_t size) {
    const char* at = static_cast<const char*>(data);
    while (size) {
        const auto put = write_some(descriptor, at, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) throw std::system_error(put < 0 ? errno : ENOSPC, std::generic_category());
        at += put;
        size -= static_cast<size_t>(put);
    }
}

}  // namespace rnnfast::core
