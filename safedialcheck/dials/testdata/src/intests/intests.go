package intests

func ready() {}
