// Answer token ids with an exported `.tflite` in LiteRT, without Python.
//
//   answer_ids FILE < rows.txt
//
// Each line of stdin is a text's token ids with blanks between, special tokens included; each
// becomes a line of probabilities, in the order of the file's labels.txt.
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "litert.h"

static void must(LiteRtStatus status) {
  if (status) throw std::runtime_error("LiteRT refuses: status " + std::to_string(status));
}

struct Classifier {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtCompiledModel compiled;
  LiteRtSignature signature;
  LiteRtTensorBuffer inputs[3], output;
  std::string names[3];   // ids, mask and segment_ids, in the order of the file
  int length = 0;         // tokens that the buffers hold
  bool is_dynamic = false;
  size_t labels = 0;

  explicit Classifier(const char* path) {
    LiteRtOptions options;
    must(LiteRtCreateEnvironment(0, nullptr, &environment));
    must(LiteRtCreateModelFromFile(environment, path, &model));
    must(LiteRtCreateOptions(&options));
    must(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
    must(LiteRtCreateCompiledModel(environment, model, options, &compiled));
    must(LiteRtGetModelSignature(model, 0, &signature));
    is_dynamic = input_type(0).dimensions[1] < 0;
    if (!is_dynamic) make_buffers(input_type(0).dimensions[1]);
  }

  LiteRtRankedTensorType input_type(size_t index) {
    LiteRtTensor tensor;
    LiteRtRankedTensorType type;
    must(LiteRtGetSignatureInputTensorByIndex(signature, index, &tensor));
    must(LiteRtGetRankedTensorType(tensor, &type));
    return type;
  }

  void make_buffers(int tokens) {
    LiteRtTensorBufferRequirements needs;
    const int sizes[] = {1, tokens};
    length = tokens;
    for (size_t i = 0; is_dynamic && i < 3; ++i)
      must(LiteRtCompiledModelResizeInputTensor(compiled, 0, i, sizes, 2));
    for (size_t i = 0; i < 3; ++i) {
      const char* name;
      must(LiteRtGetSignatureInputName(signature, i, &name));
      names[i] = name;
      LiteRtRankedTensorType type = input_type(i);
      type.dimensions[1] = tokens;
      must(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, i, &needs));
      must(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs, &inputs[i]));
    }
    LiteRtTensor tensor;
    LiteRtRankedTensorType type;
    must(LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensor));
    must(LiteRtGetRankedTensorType(tensor, &type));
    type.dimensions[0] = 1;  // a text at a time
    labels = type.dimensions[1];
    must(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, &needs));
    must(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs, &output));
  }

  void destroy_buffers() {
    for (LiteRtTensorBuffer buffer : inputs) LiteRtDestroyTensorBuffer(buffer);
    LiteRtDestroyTensorBuffer(output);
  }

  std::vector<float> operator()(const std::vector<int>& ids) {
    if (ids.empty()) throw std::runtime_error("a row without token ids");
    if (is_dynamic && ids.size() != size_t(length)) {
      if (length) destroy_buffers();
      make_buffers(ids.size());
    }
    if (ids.size() > size_t(length)) throw std::runtime_error("too many tokens for this file");
    void* memory;
    for (size_t i = 0; i < 3; ++i) {
      must(LiteRtLockTensorBuffer(inputs[i], &memory, kLiteRtTensorBufferLockModeWrite));
      for (size_t token = 0; token < size_t(length); ++token) {
        bool is_real = token < ids.size();
        int value = names[i] == "ids" && is_real ? ids[token] : names[i] == "mask" && is_real;
        static_cast<int*>(memory)[token] = value;  // segment_ids: 0, a single text
      }
      must(LiteRtUnlockTensorBuffer(inputs[i]));
    }
    must(LiteRtRunCompiledModel(compiled, 0, 3, inputs, 1, &output));
    must(LiteRtLockTensorBuffer(output, &memory, kLiteRtTensorBufferLockModeRead));
    const float* scores = static_cast<float*>(memory);
    std::vector<float> answer(scores, scores + labels);
    must(LiteRtUnlockTensorBuffer(output));
    return answer;
  }
};

int main(int count, char** arguments) try {
  if (count != 2) throw std::runtime_error("expected one argument, a .tflite");
  Classifier classify(arguments[1]);
  std::cout.precision(9);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream row(line);
    std::vector<int> ids;
    for (int id; row >> id;) ids.push_back(id);
    const char* gap = "";
    for (float score : classify(ids)) std::cout << gap << score, gap = " ";
    std::cout << "\n";
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
