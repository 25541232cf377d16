// Matrices that a file of version 3 stores without their blocks of zeros; docs/model-file.md specifies them.
#include <cstring>

#include "files/json.h"
#include "files/safetensors.h"
#include "rnnfast/error.hpp"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr size_t strip = 16;                                 // rows of a block
constexpr uint64_t most_growth = 64, allowance = 16u << 20;  // of a file, in bytes, when its zeros are put back

// Tensors "NAME.blocks" [M, 16, inputs] and "NAME.index", a bit for each block of a strip, lowest first.
struct Blocks {
    size_t rows, columns, inputs;
    const TensorView *values, *index;

    size_t strips() const { return rows / strip; }
    size_t across() const { return columns / inputs; }  // blocks of a strip
    size_t line() const { return (across() + 7) / 8; }  // bytes of its index
    bool has(size_t s, size_t k) const {
        return static_cast<const unsigned char*>(index->data)[s * line() + k / 8] >> k % 8 & 1;
    }
};

const char* wrong_with(const Blocks& b) {
    if (b.values->dtype != Dtype::f32 && b.values->dtype != Dtype::bf16 && b.values->dtype != Dtype::i8)
        return "its blocks are not F32, BF16 or I8";
    if (b.index->dtype != Dtype::i8 || b.index->shape != std::vector<size_t>{b.strips(), b.line()})
        return "its index is not I8, with a bit for every block";
    size_t blocks = 0;
    for (size_t s = 0; s < b.strips(); ++s)
        for (size_t k = 0; k < 8 * b.line(); ++k) {
            if (b.has(s, k) && k >= b.across()) return "its index has bits beyond its blocks";
            blocks += b.has(s, k);
        }
    return blocks == b.values->shape[0] ? nullptr : "its index has another number of blocks than the file";
}

void put_back(const Blocks& b, unsigned char* to) {
    const size_t bytes = bytes_of(b.values->dtype), wide = b.inputs * bytes, row = b.columns * bytes;
    const auto* from = static_cast<const unsigned char*>(b.values->data);
    for (size_t s = 0; s < b.strips(); ++s)
        for (size_t k = 0; k < b.across(); ++k)
            for (size_t i = 0; b.has(s, k) && i < strip; ++i, from += wide)
                std::memcpy(to + (s * strip + i) * row + k * wide, from, wide);
}

}  // namespace

void SafetensorsFile::restore_zeros(uint64_t file_bytes) {
    const auto found = metadata_.find("sparse");
    if (found == metadata_.end()) return;
    Json shapes;
    try {
        shapes = parse_json(found->second);
    } catch (const Error& error) {
        refuse_file({name_, ": the shapes of its sparse matrices cannot be read: ", error.what()});
    }
    uint64_t left = most_growth * file_bytes + allowance;
    for (const auto& [name, shape] : shapes.members) {
        const auto refuse = [&, &matrix = name](const char* why) {
            refuse_file({name_, ": the sparse matrix ", json_quoted(matrix), " cannot be used: ", why});
        };
        const auto values = tensors_.find(name + ".blocks"), index = tensors_.find(name + ".index");
        if (values == tensors_.end() || index == tensors_.end()) refuse("its blocks or their index are missing");
        if (tensors_.count(name)) refuse("the file has the whole matrix too");
        size_t rows = 0, columns = 0, bytes = 0;
        if (shape.items.size() != 2 || !shape.items[0].to_size(rows) || !shape.items[1].to_size(columns) || !rows ||
            !columns)
            refuse("expected two dimensions");
        const std::vector<size_t>& block = values->second.shape;
        if (block.size() != 3 || block[1] != strip || block[2] == 0 || rows % strip || columns % block[2])
            refuse("its shape is not one of whole blocks");
        if (__builtin_mul_overflow(rows, columns, &bytes) || __builtin_mul_overflow(bytes, sizeof(float), &bytes) ||
            bytes > left)
            refuse("it would be far larger than its file");
        left -= bytes;
        const Blocks blocks{rows, columns, block[2], &values->second, &index->second};
        if (const char* why = wrong_with(blocks)) refuse(why);
        const auto whole = std::make_shared<Buffer>(bytes / sizeof(float));  // large enough for every dtype
        put_back(blocks, reinterpret_cast<unsigned char*>(whole->data()));
        restored_.push_back(whole);
        const TensorView view{{rows, columns}, whole->data(), rows * columns, blocks.values->dtype};
        tensors_.erase(values);
        tensors_.erase(index);
        tensors_.emplace(name, view);
    }
}

}  // namespace rnnfast::core
