// What the files of Seq2Seq share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rnnfast::core::seq2seq {

// Where randomness enters: each place has masks of its own.
enum Site : uint64_t { source_embedding, encoder_layers, target_embedding, decoder_layers, before_output, coins };

}  // namespace rnnfast::core::seq2seq
