// The AWS SDK for Go, version 2: asks S3 at S3_URL; with AGAIN_AFTER once more after as many seconds.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println(aws.SDKVersion)
		return
	}
	loaded, err := config.LoadDefaultConfig(context.Background())
	check(err)
	client := s3.NewFromConfig(loaded, func(options *s3.Options) {
		options.UsePathStyle = true
		options.EndpointResolver = s3.EndpointResolverFromURL(os.Getenv("S3_URL"))
	})
	ask(client)
	if seconds, err := strconv.ParseFloat(os.Getenv("AGAIN_AFTER"), 64); err == nil {
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		ask(client)
	}
}

func ask(client *s3.Client) {
	_, err := client.ListBuckets(context.Background(), &s3.ListBucketsInput{})
	check(err)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
