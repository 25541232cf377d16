#include <cerrno>
#include <cstring>
#include <functional>
#include <system_error>
#include <utility>

#include "bindings/arrays.h"
#include "models/language_model_file.h"
#include "models/network_file.h"
#include "models/seq2seq/translator_file.h"
#include "ops/packing.h"
#include "runtime/dispatch.h"

namespace rnnfast::bindings {

namespace {

// What can be read as floats; tensors of other dtypes are left out. I8 stays as it is.
py::tuple as_python(const SafetensorsFile& file) {
    py::dict tensors;
    std::vector<std::function<void()>> copies;  // made once every array exists
    for (const auto& [name, tensor] : file.tensors()) {
        if (tensor.dtype == Dtype::other) continue;
        const std::vector<py::ssize_t> shape(tensor.shape.begin(), tensor.shape.end());
        if (tensor.dtype == Dtype::i8) {
            Array<int8_t> array(shape);
            copies.emplace_back([to = array.mutable_data(), &from = tensor] {
                if (from.size) std::memcpy(to, from.data, from.size);
            });
            tensors[py::str(name)] = array;
        } else {
            Array<float> array(shape);
            copies.emplace_back([to = array.mutable_data(), &from = tensor, &key = name, &file] {
                Buffer buffer;
                std::copy_n(file.floats(key, from, buffer), from.size, to);
            });
            tensors[py::str(name)] = array;
        }
    }
    without_gil([&] {
        for (const auto& copy : copies) copy();
    });
    return py::make_tuple(tensors, file.metadata());
}

// The checks that the C++ API makes when it loads a model; other kinds and other files are left to the caller.
void check_model(const SafetensorsFile& file, const std::optional<std::string>& weights) {
    const auto is = [&](const char* key, const char* value) {
        const auto found = file.metadata().find(key);
        return found != file.metadata().end() && found->second == value;
    };
    const auto precision = [&](const auto& options) {
        return weights ? named<Weights>("weights", *weights) : options.weights;
    };
    if (!is("format", "rnnfast")) return;
    if (is("kind", "language_model")) {
        const LanguageModelFile model(file);
        model.check(LanguageModel(model.options_for(precision(model.options)), std::nullopt, active()));
    } else if (is("kind", "seq2seq")) {
        const TranslatorFile model(file);
        model.check(precision(model.options));
    } else if (is("kind", "network")) {
        const NetworkFile model(file);
        model.check(precision(model.description));
    }
}

// float32 is written as F32, int8 as I8, uint16 as the bits of BF16.
TensorView view_of(const std::string& name, const py::array& array) {
    if (!(array.flags() & py::array::c_style)) throw std::invalid_argument(name + ": expected a C-contiguous array");
    TensorView view{{array.shape(), array.shape() + array.ndim()}, array.data(), static_cast<size_t>(array.size())};
    if (py::isinstance<py::array_t<float>>(array)) return view;
    view.dtype = py::isinstance<py::array_t<int8_t>>(array) ? Dtype::i8 : Dtype::bf16;
    if (view.dtype == Dtype::bf16 && !py::isinstance<py::array_t<uint16_t>>(array))
        throw std::invalid_argument(name + ": expected float32, int8, or uint16 for the bits of bfloat16");
    return view;
}

std::map<std::string, TensorView> views_of(const std::map<std::string, py::array>& arrays) {
    std::map<std::string, TensorView> views;
    for (const auto& [name, array] : arrays) views[name] = view_of(name, array);
    return views;
}

SafetensorsFile checked(SafetensorsFile file) {
    file.check_finite();
    return file;
}

py::tuple read_safetensors(const std::string& path) {
    return as_python(without_gil([&] { return checked(SafetensorsFile::open(path)); }));
}

// As read_safetensors, after every check of a model's configuration, vocabulary and shapes.
py::tuple read_model(const std::string& path, const std::optional<std::string>& weights) {
    return as_python(without_gil([&] {
        SafetensorsFile file = SafetensorsFile::open(path);
        check_model(file, weights);
        return checked(std::move(file));
    }));
}

py::tuple parse_safetensors(const py::bytes& bytes, const std::string& name) {
    const auto text = static_cast<std::string_view>(bytes);
    return as_python(without_gil([&] { return checked(SafetensorsFile::view(text, name)); }));
}

using Arrays = std::map<std::string, py::array>;
using Metadata = std::map<std::string, std::string>;

void write_safetensors_to(int descriptor, const std::string& name, const Arrays& arrays, const Metadata& metadata) {
    const std::map<std::string, TensorView> tensors = views_of(arrays);
    try {
        const py::gil_scoped_release release;
        write_safetensors(descriptor, name, tensors, metadata);
    } catch (const std::system_error& error) {
        errno = error.code().value();
        PyErr_SetFromErrno(PyExc_OSError);
        throw py::error_already_set();
    }
}

void write_safetensors_file(const std::string& path, const Arrays& arrays, const Metadata& metadata) {
    const std::map<std::string, TensorView> tensors = views_of(arrays);
    const py::gil_scoped_release release;
    write_safetensors(path, tensors, metadata);
}

py::bytes safetensors_as_bytes(const Arrays& arrays, const Metadata& metadata, const std::string& name) {
    const std::map<std::string, TensorView> tensors = views_of(arrays);
    return py::bytes(without_gil([&] { return safetensors_bytes(tensors, metadata, name); }));
}

// The size of a row.
size_t check_matrix(const Array<float>& matrix) {
    if (matrix.ndim() != 2 || matrix.size() == 0)
        throw std::invalid_argument("the array has shape " + shape_text(matrix) + ", expected a weight matrix");
    return static_cast<size_t>(matrix.shape(1));
}

std::pair<Array<int8_t>, Array<float>> int8_rows(const Array<float>& matrix) {
    const size_t size = check_matrix(matrix), rows = static_cast<size_t>(matrix.shape(0));
    Array<int8_t> quantized({matrix.shape(0), matrix.shape(1)});
    Array<float> scales(matrix.shape(0));
    const float* from = matrix.data();
    int8_t* to = quantized.mutable_data();
    float* scale = scales.mutable_data();
    without_gil([&] {
        for (size_t r = 0; r < rows; ++r) scale[r] = int8_row(active(), from + r * size, size, to + r * size);
    });
    return {quantized, scales};
}

Array<uint16_t> bf16_rows(const Array<float>& matrix) {
    const size_t size = check_matrix(matrix), rows = static_cast<size_t>(matrix.shape(0));
    Array<uint16_t> rounded({matrix.shape(0), matrix.shape(1)});
    const float* from = matrix.data();
    uint16_t* to = rounded.mutable_data();
    const py::gil_scoped_release release;
    for (size_t r = 0; r < rows; ++r) bf16_row(active(), from + r * size, size, to + r * size);
    return rounded;
}

}  // namespace

void register_files(py::module_& m) {
    m.def("read_safetensors", &read_safetensors, py::arg("path"));
    m.def("read_model", &read_model, py::arg("path"), py::arg("weights") = py::none());
    m.def("parse_safetensors", &parse_safetensors, py::arg("data"), py::arg("name") = "bytes");
    m.def("write_safetensors_to", &write_safetensors_to, py::arg("descriptor"), py::arg("name"), py::arg("tensors"),
          py::arg("metadata"));
    m.def("safetensors_bytes", &safetensors_as_bytes, py::arg("tensors"), py::arg("metadata"),
          py::arg("name") = "bytes");
    m.def("write_safetensors", &write_safetensors_file, py::arg("path"), py::arg("tensors"), py::arg("metadata"));
    m.def("int8_rows", &int8_rows, py::arg("matrix"));
    m.def("bf16_rows", &bf16_rows, py::arg("matrix"));
}

}  // namespace rnnfast::bindings
