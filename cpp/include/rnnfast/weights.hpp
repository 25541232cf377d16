// Precision of the weights in products. States, saved gates, gradients and master weights stay float32.
#pragma once

namespace rnnfast {

enum class Weights { f32, bf16, int8 };

}  // namespace rnnfast
