"""Ship a model: conversion to TFLite, a runtime, checks, bundles and measurements."""
