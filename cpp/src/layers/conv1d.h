// torch.nn.Conv1d over time, forward, backward and step.
#pragma once

#include "layers/packed.h"
#include "layers/parameter.h"
#include "ops/convolve.h"
#include "runtime/weights_stamp.h"

namespace rnnfast::core {

struct Conv1dOptions {
    size_t in_channels = 0, out_channels = 0, kernel_size = 1, dilation = 1;
    size_t before = 0, after = 0;  // steps of zeros around the sequence
    bool bias = true;
    size_t stride = 1, groups = 1;
    size_t reach() const { return dilation * (kernel_size - 1); }
    // Steps that come out of `steps`; 0: too few went in.
    size_t output_steps(size_t steps) const {
        const size_t padded = steps + before + after;
        return steps && padded > reach() ? (padded - reach() - 1) / stride + 1 : 0;
    }
};

// torch.nn.Conv1d, on sequences whose channels lie side by side.
class Conv1d {
public:
    // Without a seed, the parameters have no values: load() packs those of a file.
    Conv1d(const Conv1dOptions& options, std::optional<uint64_t> seed, const Kernels& kernels);
    // For running only: packs the values of a file and keeps no others.
    void load(const FileValues& values);

    const Conv1dOptions& options() const { return options_; }
    const Kernels& kernels() const { return *kernels_; }
    Parameters parameters();
    void weights_changed();
    const WeightsStamp& weights_stamp() const { return stamp_; }
    // Steps that come out of `steps`; throws if the kernel reaches over the padded sequence.
    size_t output_steps(size_t steps) const;

    // On any number of threads, but at most so many.
    void forward(const ConstSequence& x, const Sequence& y, size_t most_threads = all_threads) const;
    // Adds to the parameters' gradients; writes dx, laid out like x, unless it is nullptr.
    void backward(const ConstSequence& x, const ConstSequence& dy, float* dx);
    // One step of rows: window [kernel_size, N, C] are the inputs under the taps, y [N, O].
    void step(const float* window, size_t rows, float* y) const;

private:
    size_t inputs() const { return options_.in_channels / options_.groups; }  // of a group, as are outputs
    size_t outputs() const { return options_.out_channels / options_.groups; }
    size_t weights() const { return options_.out_channels * options_.kernel_size * inputs(); }
    Taps taps() const {
        return {options_.kernel_size, options_.dilation, static_cast<ptrdiff_t>(options_.before), options_.stride};
    }
    Buffer taps_first() const;
    struct Panels {
        PackedMatrix weights;
        Buffer start;  // what sums start from: the bias, or zeros
    };
    using Groups = std::vector<Panels>;
    const Groups& packed_forward() const;
    const Groups& packed_backward() const;
    // This thread's share of y = x convolved, group by group.
    static void convolve_groups(const Team& team, const Groups& groups, const Taps& taps, const ConstSequence& x,
                                const Sequence& y);
    void add_bias_and_weights(const Team& team, const ConstSequence& dy, const float* sums);

    Conv1dOptions options_;
    const Kernels* kernels_;
    Parameter weight_, bias_;  // [O, C / groups, k], [O]
    Packed<Groups> forward_, backward_;
    WeightsStamp stamp_;
};

}  // namespace rnnfast::core
