// Files of the classifiers, taggers and forecasters that Python trains: a network, how its inputs are read, and what
// its outputs mean. Checked in full before any part of it is used.
#pragma once

#include "files/vocabulary.h"
#include "models/linear_horizon.h"
#include "models/network_file.h"

namespace rnnfast::core {

// x = (number - mean) / scale for each of the numbers of a step, in double precision.
struct Scaling {
    std::vector<double> mean, scale;
    size_t size() const { return mean.size(); }
    // Throws std::invalid_argument for NaN and infinity, and for numbers that float32 cannot hold once they are scaled.
    void apply(const double* numbers, size_t steps, float* x) const;
    void undo(const float* x, size_t steps, double* numbers) const;
};

enum class LabelsOf { sequences, steps };  // of a classifier, of a tagger

struct LabellerFile {
    LabellerFile(SafetensorsFile opened, LabelsOf what);

    TokenTable tokens;  // of size 0: the network reads numbers
    Scaling scaling;    // of size 0: it reads tokens
    std::vector<std::string> labels;
    NetworkFile network;  // the input "x" -> the labels' logits
};

struct AutoregressorFile {
    explicit AutoregressorFile(SafetensorsFile opened);

    Scaling scaling;
    NetworkFile network;      // the input "x" -> the next x
    NetworkFile head;         // the state h of the last recurrent layer -> the next x
    std::vector<float> h, c;  // [layers, H]: the state of "rnn" after the fitted series; c: of cells that have one
};

struct ForecasterParts {
    Scaling scaling;         // of each of the D series, or of their logarithms
    std::vector<char> logs;  // [D]: it is the logarithms
    Horizon horizon;
    double interval = 0;  // the share of values between both ends
    size_t calibration = 0;
    // linear: [D, H, terms] coefficients; spread: [D, H] of what they leave; scores: [D, H, calibration] by how much
    // known values lay outside, newest last, NaN first; series: [steps, D + exogenous] as fitted
    std::vector<double> linear, spread, scores, series;
};

struct ForecasterFile : ForecasterParts {
    explicit ForecasterFile(SafetensorsFile opened);
    NetworkFile network;  // the input "x" -> [H, 3]: quantiles of what the linear part leaves
};

}  // namespace rnnfast::core
